"""`evaluate --compare` and `--curve`: the same tasks for both, and the accuracy after every inner step."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import paired, runs
from reptile_np.experiments.checkpoints import save_step
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.paired import compare
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.run_json import identity
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import experiment, small

SETTINGS = "filters=8", "inner.learning_rate=0.01"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A run, and one with another number of outer steps."""
    folder = tmp_path_factory.mktemp("pair")
    for name, steps in (("a", 30), ("b", 1)):
        preset = small("glyphs-5way", f"outer.steps={steps}", *SETTINGS)
        runs.train(preset, 0, NUMPY, out=folder / name, quiet=True)
    return folder / "a", folder / "b"


def test_a_run_may_be_named_in_text_with_a_tilde_wherever_it_is_read(pair, monkeypatch):
    monkeypatch.setenv("HOME", str(pair[0].parent))
    options = {"tasks": 2, "jobs": 1, "quiet": True}
    assert runs.evaluate("~/a", NUMPY, **options) == runs.evaluate(pair[0], NUMPY, **options)
    assert compare(("~/a", str(pair[1])), NUMPY, **options) == compare(pair, NUMPY, **options)


def fractions(path, tasks):
    preset, seed = RunDirectory(path).config()
    made = make_experiment(preset, seed, NUMPY)
    step = RunDirectory(path).load(made.start())
    spec = type(preset.evaluation)(**{**vars(preset.evaluation), "tasks": tasks})
    return {mode: a.fractions for mode, a in made.evaluate(step, spec).accuracy.items()}


def test_the_difference_is_that_of_the_tasks_one_by_one(pair):
    result = compare(pair, NUMPY, tasks=40, jobs=1, quiet=True)
    a, b = (fractions(path, 40) for path in pair)
    for mode, difference in result["difference"].items():
        d = a[mode] - b[mode]
        assert difference["mean"] == pytest.approx(d.mean())
        normal, share = 1.96 * np.std(d, ddof=1) / np.sqrt(40), 1 - 0.05 ** (1 / 40)
        assert difference["ci95"] == pytest.approx(max(normal, share * (1 + abs(np.median(d)))))
        assert result["a"]["accuracy"][mode]["mean"] == pytest.approx(a[mode].mean())
    assert result["difference"]["transductive"]["mean"] > 0  # 30 outer steps are better than one


def test_a_run_beside_itself_has_no_difference_and_b_beside_a_has_the_opposite_one(pair):
    a, b = pair
    same = compare((a, a), NUMPY, tasks=10, jobs=1, quiet=True)["difference"]
    assert all(value["mean"] == 0.0 for value in same.values())
    one, other = (compare(p, NUMPY, tasks=10, jobs=1, quiet=True)["difference"] for p in ((a, b), (b, a)))
    assert all(one[mode]["mean"] == -other[mode]["mean"] for mode in one)


@pytest.mark.parametrize("d", [0.0, -0.5, 1.0])
@pytest.mark.parametrize("tasks", [2, 10, 10_000])
def test_the_interval_of_equal_differences_reaches_to_means_that_seldom_give_them(d, tasks):
    half = paired._ci95(np.full(tasks, d))
    other = -1.0 if d > 0 else 1.0  # the difference that is farthest from d
    share = half / abs(other - d)  # of tasks with it, for a mean at the interval's end
    assert (1 - share) ** tasks == pytest.approx(0.05)
    assert paired._ci95(d + 1e-16 * np.arange(tasks)) == pytest.approx(half)


@pytest.mark.parametrize("tasks", [20, 100, 10_000])
def test_one_task_that_differs_does_not_make_the_interval_narrower(tasks):
    none, one = np.zeros(tasks), np.zeros(tasks)
    one[0] = 0.2
    assert paired._ci95(one) >= paired._ci95(none)


def test_near_100_percent_the_interval_covers_the_difference():
    """The normal interval has the width 0 in one of twenty such comparisons."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(1000):
        d = (rng.binomial(5, 0.999, 100) - rng.binomial(5, 0.995, 100)) / 5
        covered.append(abs(d.mean() - (0.999 - 0.995)) <= paired._ci95(d))
    assert np.mean(covered) > 0.93


def begun(path, preset, seed=0):
    """A run that has only begun: what decides its tasks is known."""
    with RunDirectory(path).begin(preset, seed):
        return path


@pytest.mark.parametrize(
    ("setting", "seed"),
    [
        ("outer.steps=30", 1),
        ("tasks.ways=3", 0),
        ("tasks.turn=true", 0),
        ("tasks.classes=51", 0),
        ("tasks.images=19", 0),
        ("evaluation.queries=3", 0),
    ],
)
def test_runs_whose_tasks_differ_are_not_compared(pair, tmp_path, setting, seed):
    other = begun(tmp_path / "other", small("glyphs-5way", setting), seed)
    with pytest.raises(UsageError, match="do not have the same test tasks"):
        compare((pair[0], other), NUMPY, tasks=2, jobs=1, quiet=True)


def test_sine_waves_are_not_compared(tmp_path):
    run = begun(tmp_path / "sine", small("sine-reptile"))
    with pytest.raises(UsageError, match="not a classifier"):
        compare((run, run), NUMPY, tasks=2, jobs=1, quiet=True)


@pytest.mark.parametrize(
    ("split", "refusal"), [("train", "do not have the same"), ("test", "not on this machine")]
)
def test_omniglot_runs_with_other_training_classes_have_the_same_test_tasks_alone(
    tmp_path, monkeypatch, split, refusal
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the images are asked for if the tasks agree
    both = tuple(
        begun(tmp_path / str(characters), small("omniglot-5way", f"tasks.train_classes={characters}"))
        for characters in (0, 1100)
    )
    with pytest.raises(UsageError, match=refusal):
        compare(both, NUMPY, split=split, tasks=2, jobs=1, quiet=True)


def test_each_run_is_evaluated_as_evaluate_does_it_on_the_classes_that_are_asked_for(pair, tmp_path):
    """B is fine-tuned with its own steps, for the K that A's preset has."""
    a, b = pair[0], tmp_path / "b"
    own = "outer.steps=1", "inner.learning_rate=0.03", "evaluation.steps=1", "evaluation.shots=3"
    preset = small("glyphs-5way", *own, "evaluation.tasks=1")
    runs.train(preset, 0, NUMPY, out=b, quiet=True)
    options = {"split": "train", "tasks": 3}
    result = compare((a, b), NUMPY, **options, jobs=1, quiet=True)
    assert result.items() >= {**options, "shots": 1, "ways": 5}.items()
    for run, path in (("a", a), ("b", b)):
        alone = runs.evaluate(path, NUMPY, **options, shots=1, jobs=1, quiet=True)
        assert result[run]["accuracy"] == alone["accuracy"]
    assert compare((b, a), NUMPY, tasks=1, jobs=1, quiet=True)["shots"] == 3


def test_one_task_has_no_interval_and_the_outer_steps_are_those_of_the_state(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "a")
    step = RunDirectory(tmp_path / "a").load(experiment("glyphs-5way", *SETTINGS, "outer.steps=30").start())
    save_step(tmp_path / "a", replace(step, done=29), identity(*RunDirectory(tmp_path / "a").config()))
    result = compare((tmp_path / "a", pair[1]), NUMPY, tasks=1, jobs=1, quiet=True)
    assert [difference["ci95"] for difference in result["difference"].values()] == [None, None]
    assert (result["a"]["outer_steps"], result["b"]["outer_steps"]) == (29, 1)


@pytest.mark.parametrize("done", [29, 30])
def test_a_state_before_the_last_outer_step_is_named_when_it_is_evaluated(pair, tmp_path, capsys, done):
    run = shutil.copytree(pair[0], tmp_path / "a")
    step = RunDirectory(run).load(experiment("glyphs-5way", *SETTINGS, "outer.steps=30").start())
    save_step(run, replace(step, done=done), identity(*RunDirectory(run).config()))
    runs.evaluate(run, NUMPY, tasks=1, jobs=1, quiet=True)
    compare((pair[1], run), NUMPY, tasks=1, jobs=1, quiet=True)
    about = [f"reptile-np: {name}: evaluated after 29 of 30 outer steps" for name in ("glyphs-5way", "B")]
    assert capsys.readouterr().err.splitlines() == (about if done < 30 else [])


def test_a_second_run_that_cannot_be_read_is_said_before_the_first_is_evaluated(pair, tmp_path, monkeypatch):
    shutil.copytree(pair[1], tmp_path / "b")
    (tmp_path / "b" / "checkpoint.npz").unlink()
    monkeypatch.setattr(Experiment, "evaluate", None)
    with pytest.raises(UsageError, match="but no checkpoint"):
        compare((pair[0], tmp_path / "b"), NUMPY, tasks=2, jobs=1, quiet=True)


def test_shots_that_the_test_classes_do_not_have_are_said_before_a_run_is_evaluated(pair, monkeypatch):
    monkeypatch.setattr(Experiment, "evaluate", None)
    with pytest.raises(UsageError, match="a test class has 20 images"):
        compare(pair, NUMPY, tasks=2, shots=20, jobs=1, quiet=True)


@pytest.mark.parametrize("shots", [0, -1])
def test_a_number_of_shots_that_cannot_be_is_refused(pair, shots):
    with pytest.raises(UsageError, match="shots"):
        compare(pair, NUMPY, tasks=2, shots=shots, jobs=1, quiet=True)


def test_a_curve_starts_without_fine_tuning_and_ends_with_the_accuracy(pair, tmp_path):
    plain = runs.evaluate(pair[0], NUMPY, tasks=5, jobs=1, quiet=True)
    result = runs.evaluate(pair[0], NUMPY, tasks=5, jobs=1, quiet=True, curve=True)
    assert result["accuracy"] == plain["accuracy"]
    for mode, points in result["curve"].items():
        assert len(points) == 1 + 4
        assert points[-1] == result["accuracy"][mode]
    shorter = small("glyphs-5way", "outer.steps=30", "filters=8", "inner.learning_rate=0.01")
    made = make_experiment(shorter, 0, NUMPY)
    step = RunDirectory(pair[0]).load(made.start())
    spec = type(shorter.evaluation)(**{**vars(shorter.evaluation), "tasks": 5, "steps": 2})
    after_2 = made.evaluate(step, spec).to_json()["accuracy"]  # the first minibatches are the same
    assert {mode: points[2] for mode, points in result["curve"].items()} == after_2


def test_the_curve_of_sine_waves_is_the_error(tmp_path):
    runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path / "sine", quiet=True)
    result = runs.evaluate(tmp_path / "sine", NUMPY, tasks=3, jobs=1, quiet=True, curve=True)
    errors = result["curve"]["error"]
    assert len(errors) == 33
    assert (errors[0], errors[-1]) == (result["error_before"], result["error"])


def test_a_curve_of_one_step_has_two_points(tmp_path):
    runs.train(small("sine-reptile", "evaluation.steps=1"), 0, NUMPY, out=tmp_path / "sine", quiet=True)
    result = runs.evaluate(tmp_path / "sine", NUMPY, tasks=3, jobs=1, quiet=True, curve=True)
    assert result["curve"]["error"] == [result["error_before"], result["error"]]
    assert "curve" not in runs.evaluate(tmp_path / "sine", NUMPY, tasks=3, jobs=1, quiet=True)


def test_the_command_prints_both(pair, capsys):
    a, b = map(str, pair)
    options = ["--tasks", "3", "--ops", "numpy", "--quiet"]
    assert main(["evaluate", a, *options, "--curve"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading = lines.index("after 0, 1, 2, … inner steps:")
    assert len(lines[heading + 1].split()) == 1 + 5  # the mode, and 0 to 4 steps
    assert max(map(len, lines)) <= 80
    assert main(["evaluate", a, "--compare", b, *options]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for more in ([], ["--compare", b]):
        assert main(["evaluate", a, *more, "--ops", "numpy", "--quiet", "--tasks", "1", "--jobs", "1"]) == 0
        assert capsys.readouterr().out.splitlines()[0].endswith("-way, 1 task of the test set")
    assert main(["evaluate", a, "--compare", b, *options, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["difference"]) == {"transductive", "non_transductive"}
    assert main(["evaluate", a, "--compare", b, "--curve", *options]) == 2
