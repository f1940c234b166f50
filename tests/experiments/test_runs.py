"""Runs: they resume to the bit, keep records, and never overwrite anything."""

import itertools
import json

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import presets, problems, runs
from reptile_np.experiments.checkpoints import load_step
from reptile_np.experiments.runs import RunDirectory
from reptile_np.experiments.streams import Streams
from reptile_np.nn.ops import NUMPY

SMALL = {
    "sine-reptile": ["outer.steps=40", "evaluation.tasks=3"],
    "sine-maml": ["outer.steps=40", "evaluation.tasks=3"],
    "sine-fomaml": ["outer.steps=40", "evaluation.tasks=3", "outer.optimizer=momentum"],
    "sine-joint": ["outer.steps=40", "evaluation.tasks=3"],
    "glyphs-5way": [
        "outer.steps=4",
        "evaluation.tasks=3",
        "evaluation.steps=4",
        "filters=3",
        "tasks.classes=50",
        "outer.meta_batch=2",
    ],
}


def small(name):
    return presets.with_settings(presets.get(name), SMALL[name])


def final_phi(path, preset, seed=0):
    streams = Streams(seed)
    problem = problems.bind(preset, streams, NUMPY, None)
    template = runs.initial_step(problem, preset, streams)
    return load_step(RunDirectory(path).checkpoint, template).phi


def interrupted_after(monkeypatch, steps):
    """Let the outer loop be stopped as Ctrl-C would, after so many steps."""
    original = runs.outer_steps

    def stopping(problem, preset, start):
        yield from itertools.islice(original(problem, preset, start), steps)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "outer_steps", stopping)


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_was_stopped_goes_on_to_the_bit(tmp_path, monkeypatch, name):
    preset = small(name)
    whole = runs.train(preset, 0, NUMPY, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            runs.train(preset, 0, NUMPY, out=tmp_path / "stopped", quiet=True)
    again = runs.train(preset, 0, NUMPY, out=tmp_path / "stopped", resume=True, quiet=True)
    del whole["seconds"], again["seconds"]
    assert whole == again
    np.testing.assert_array_equal(
        final_phi(tmp_path / "whole", preset), final_phi(tmp_path / "stopped", preset)
    )
    assert (tmp_path / "whole/records.jsonl").read_text() == (tmp_path / "stopped/records.jsonl").read_text()


def test_records_that_the_checkpoint_does_not_have_are_dropped_on_resume(tmp_path, monkeypatch):
    preset = small("sine-reptile")
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupted_after(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            runs.train(preset, 0, NUMPY, out=out, quiet=True)
    with (out / "records.jsonl").open("a") as file:
        file.write('{"outer_step": 8, "first_loss": 0}\n{"outer_st')  # a kill later, mid-line
    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    steps = [json.loads(line)["outer_step"] for line in (out / "records.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))


def test_evaluating_more_often_does_not_change_training():
    preset = small("glyphs-5way")
    streams = Streams(0)
    problem = problems.bind(preset, streams, NUMPY, None)
    quiet, watched = [], []
    start = runs.initial_step(problem, preset, streams)
    for step in runs.outer_steps(problem, preset, start):
        quiet.append(step.phi)
    for step in runs.outer_steps(problem, preset, start):
        problem.scores(step.phi, step.inner_state, preset.evaluation)
        watched.append(step.phi)
    np.testing.assert_array_equal(quiet, watched)


def test_the_seed_decides_everything(tmp_path):
    preset = small("glyphs-5way")
    one, again, other = (runs.train(preset, seed, NUMPY, quiet=True) for seed in (0, 0, 1))
    assert one["accuracy"] == again["accuracy"]
    streams = [Streams(seed) for seed in (0, 1)]
    a, b = (problems.bind(preset, s, NUMPY, None).episode(0, 0)[0][0] for s in streams)
    assert not np.array_equal(a, b)
    assert set(other) == set(one)


def test_the_result_has_the_keys_of_the_contract(tmp_path):
    result = runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    for key in ("accuracy", "accuracy_untrained"):
        assert set(result[key]) == {"transductive", "non_transductive"}
        assert all(0 <= fraction <= 1 for fraction in result[key].values())
    assert json.loads((tmp_path / "run/result.json").read_text())["accuracy"] == result["accuracy"]
    sine = runs.train(small("sine-reptile"), 0, NUMPY, quiet=True)
    assert sine["error"] >= 0
    assert sine["error_untrained"] >= 0


def test_evaluate_reads_the_run_back(tmp_path):
    preset = small("glyphs-5way")
    result = runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    same = runs.evaluate(tmp_path / "run", NUMPY, tasks=3, quiet=True)
    assert {mode: value["mean"] for mode, value in same["accuracy"].items()} == result["accuracy"]
    assert (same["tasks"], same["shots"], same["ways"]) == (3, 1, 5)
    five = runs.evaluate(tmp_path / "run", NUMPY, tasks=2, shots=5, split="train", quiet=True)
    assert five["shots"] == 5


@pytest.mark.parametrize("resume", [False, True])
def test_an_existing_directory_is_never_overwritten(tmp_path, resume):
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"exists|no run here"):
        runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path, resume=resume, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_two_runs_are_not_at_work_in_one_directory(tmp_path, monkeypatch):
    """The second is refused and changes nothing; the first goes on, and then the directory is free."""
    preset, out = small("sine-reptile"), tmp_path / "run"
    original, refused = runs.outer_steps, []

    def disturbed(problem, preset, start):
        for step in original(problem, preset, start):
            if step.done == 20:
                before = (out / "records.jsonl").read_bytes()
                with pytest.raises(UsageError, match="another run is at work there") as error:
                    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
                refused.append(str(error.value))
                assert (out / "records.jsonl").read_bytes() == before
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(runs, "outer_steps", disturbed)
        result = runs.train(preset, 0, NUMPY, out=out, quiet=True)
    assert len(refused) == 1
    assert "\n" not in refused[0]
    again = runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    assert again["error"] == result["error"]


def test_a_run_is_not_resumed_with_other_settings(tmp_path):
    preset = small("sine-reptile")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    longer = presets.with_settings(preset, ["outer.steps=50"])
    for other, seed in ((longer, 0), (preset, 1)):
        with pytest.raises(UsageError, match="other settings or another seed"):
            runs.train(other, seed, NUMPY, out=tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seed": 0}', '{"preset": {}, "seed": 0}'])
def test_a_config_that_is_not_whole_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json"):
        runs.evaluate(tmp_path, NUMPY, tasks=1, quiet=True)


@pytest.mark.parametrize(
    ("name", "setting", "says"),
    [
        ("sine-maml", "inner.optimizer=adam", "inner.optimizer=sgd"),
        ("sine-joint", "inner.steps=2", "inner.steps=1"),
        ("sine-reptile", "inner.batch=0", "at least 1"),
        ("glyphs-5way", "tasks.images=9", "images"),
        ("glyphs-5way", "inner.learning_rate=1e30", "inner step"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(name, setting, says):
    preset = presets.with_settings(small(name), [setting])
    with pytest.raises(UsageError, match=says) as error:
        runs.train(preset, 0, NUMPY, quiet=True)
    assert "\n" not in str(error.value)
