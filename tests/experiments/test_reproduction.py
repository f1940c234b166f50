"""`reproduce`: what is kept, resumed and reported."""

import json
import shutil
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import reproduction, targets
from reptile_np.experiments.checkpoints import load_step, save_step
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.presets import PRESETS, SAME_K, get
from reptile_np.experiments.reproduction import PlannedRun, plan
from reptile_np.experiments.run_directory import RunDirectory, RunIsBusy
from reptile_np.experiments.run_json import identity
from reptile_np.experiments.targets import TARGETS
from reptile_np.nn.ops import NUMPY
from tests.experiments.reproduced import ONLY, SETTINGS, SMALL, STEPS, checkpoints, command, evaluation
from tests.experiments.small import small


def test_every_table_and_figure_has_its_presets_and_every_published_cell_is_evaluated():
    names = [name for target in TARGETS.values() for name in target.presets]
    assert len(set(names)) == len(names)
    ours = {"glyphs-5way", "images-5way", "images-colour-5way", "sine-fomaml"}
    assert set(names) == (PRESETS | SAME_K).keys() - ours
    for target in TARGETS.values():
        for preset in map(get, target.presets):
            shots = {spec.shots for spec in target.evaluations(preset)}
            assert shots >= {cell.shots for cell in preset.published}
    for name in ("table1", "table2", "figure3"):
        assert all(spec.tasks == 10_000 for spec in TARGETS[name].evaluations(get(TARGETS[name].presets[0])))


def test_a_run_is_what_train_and_evaluate_do(undisturbed, tmp_path, capsys):
    run = undisturbed / "same-k-glyphs-reptile-k2-seed1"
    train = [
        "train",
        "same-k-glyphs-reptile-k2",
        "--seed",
        "1",
        "--ops",
        "numpy",
        "--out",
        str(tmp_path / "x"),
    ]
    assert main([*train, *SMALL, "--quiet"]) == 0
    assert main(["evaluate", str(tmp_path / "x"), "--tasks", "3", "--ops", "numpy", "--quiet"]) == 0
    assert (run / "checkpoint.npz").read_bytes() == (tmp_path / "x/checkpoint.npz").read_bytes()
    assert (run / "records.jsonl").read_bytes() == (tmp_path / "x/records.jsonl").read_bytes()
    assert not list(undisturbed.glob("*/progress.json"))


def test_finished_runs_are_kept_and_the_table_needs_neither_checkpoint_nor_data(
    undisturbed, tmp_path, capsys, monkeypatch
):
    for run in undisturbed.iterdir():
        (tmp_path / run.name).mkdir()
        for name in ("config.json", "records.jsonl", "result.json"):
            (tmp_path / run.name / name).write_bytes((run / name).read_bytes())
    capsys.readouterr()
    monkeypatch.setattr(reproduction, "work", None)
    assert main([*command(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["seeds"] for row in rows] == [[0, 1]] * 4
    assert main(command(tmp_path, "--dry-run")) == 0
    assert "0 of 4 runs are left" in capsys.readouterr().out


def test_a_dry_run_says_what_is_done_and_what_is_left_and_changes_nothing(tmp_path, capsys):
    assert main([*command(tmp_path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("train, evaluate 1-shot" in line for line in lines) == 4
    assert lines[-1].startswith("4 of 4 runs are left: about ")
    assert not list(tmp_path.iterdir())


def test_an_evaluation_may_have_another_number_of_tasks(undisturbed, capsys):
    assert main(command(undisturbed, "--tasks", "3", "--dry-run")) == 0
    assert "0 of 4 runs are left" in capsys.readouterr().out
    assert main(command(undisturbed, "--tasks", "4", "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("  evaluate 1-shot" in line for line in lines) == 4


def test_the_longest_run_is_the_first():
    planned = plan(TARGETS["table2"], (0, 1), Path("/nowhere"))
    left = [run.seconds_left() for run in planned]
    assert left == sorted(left, reverse=True)
    assert planned[0].preset.hours == max(run.preset.hours for run in planned)


def test_a_failing_run_is_reported_and_does_not_stop_the_others(undisturbed, tmp_path, capsys):
    blocked = tmp_path / "same-k-glyphs-fomaml-k2-seed0"
    blocked.mkdir()
    (blocked / "something").touch()
    assert main([*command(tmp_path), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "same-k-glyphs-fomaml-k2-seed0" in error
    assert "Traceback" not in error
    expected = checkpoints(undisturbed)
    assert checkpoints(tmp_path) == {k: v for k, v in expected.items() if k != blocked.name}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("result.json", "{"),
        ("result.json", f'{{"outer_steps": {STEPS}}}'),
        (
            "records.jsonl",
            f'{{"outer_step": {STEPS}, "evaluation": {{"split": "test", "tasks": 3, "shots": 1}}}}',
        ),
    ],
)
def test_a_damaged_file_of_a_run_is_made_again_or_named_and_the_table_shows_the_others(
    undisturbed, tmp_path, capsys, name, text
):
    shutil.copytree(undisturbed, tmp_path / "out")
    run = tmp_path / "out/same-k-glyphs-reptile-k2-seed0"
    (run / name).write_text(text)
    assert main([*command(tmp_path / "out", "--table"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert all({1} <= set(row["seeds"]) for row in rows)
    status = main([*command(tmp_path / "out"), "--quiet"])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if name == "config.json":
        assert (status, said.count("same-k-glyphs-reptile-k2-seed0: ")) == (1, 1)
        return
    assert status == 0
    assert checkpoints(tmp_path / "out") == checkpoints(undisturbed)
    (planned, *_) = plan(targets.get("same-k").only(ONLY), (0,), tmp_path / "out", settings=SETTINGS)
    assert planned.done()
    evaluated = {record["outer_step"] for record in RunDirectory(run).records() if "evaluation" in record}
    assert evaluated == {STEPS}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("result.json", '{"outer_steps": 1e400, "seconds": 1}'),
        ("records.jsonl", evaluation('"error": 1')),
        ("records.jsonl", evaluation(f'"accuracy": {{"transductive": {{"mean": {10**400}, "ci95": 1}}}}')),
        ("records.jsonl", f'{{"outer_step": {10**400}}}'),
    ],
    ids=["config", "infinite result", "error of a classifier", "huge mean", "huge step"],
)
def test_a_run_with_a_damaged_file_is_not_done_and_a_table_does_not_count_it(
    undisturbed, tmp_path, capsys, name, text
):
    shutil.copytree(undisturbed, tmp_path / "out")
    (tmp_path / "out/same-k-glyphs-reptile-k2-seed0" / name).write_text(text)
    (planned, *_) = plan(targets.get("same-k").only(ONLY), (0,), tmp_path / "out", settings=SETTINGS)
    assert not planned.done()
    assert main([*command(tmp_path / "out", "--table"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    counted = {row["preset"]: row["seeds"] for row in rows}
    if name != "result.json":  # the evaluation of a run is whole without its result
        assert counted["same-k-glyphs-reptile-k2"] == [1]
    assert counted["same-k-glyphs-fomaml-k2"] == [0, 1]


def test_a_recorded_folder_that_is_no_path_is_damage(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed, tmp_path / "out")
    run = tmp_path / "out/same-k-glyphs-reptile-k2-seed0"
    (run / "environment.json").write_text('{"sittings": [{"seconds": 1, "kernels": "numpy", "data": 5}]}')
    assert main(["evaluate", str(run), "--tasks", "1", "--jobs", "1", "--quiet", "--ops", "numpy"]) == 0
    assert capsys.readouterr().err.count("environment.json: damaged") == 1


def test_a_damaged_checkpoint_of_a_finished_run_is_trained_again_before_it_is_evaluated(
    undisturbed, tmp_path, capfd
):
    shutil.copytree(undisturbed, tmp_path / "out")
    run = tmp_path / "out/same-k-glyphs-reptile-k2-seed0"
    config = RunDirectory(run).config()
    start, name = make_experiment(*config, NUMPY).start(), identity(*config)
    save_step(run, replace(load_step(run / "checkpoint.npz", start, name), done=STEPS - 1), name)
    (run / "checkpoint.npz").replace(run / "checkpoint-before.npz")
    (run / "checkpoint.npz").write_bytes(b"not a checkpoint")
    assert main([*command(tmp_path / "out", "--tasks", "4"), "--quiet"]) == 0
    assert f"outer step {STEPS - 1}, instead" in capfd.readouterr().err
    evaluated = [record["outer_step"] for record in RunDirectory(run).records() if "evaluation" in record]
    assert evaluated == [STEPS, STEPS]


def test_another_run_in_the_directory_is_refused_before_anything_starts(undisturbed, capsys):
    assert main([*command(undisturbed), "--set", "outer.steps=51"]) == 2
    assert "was begun with outer.steps=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table9"], "did you mean table2, table1?"),
        (["foo"], "choose one of table1, table2, figure1, "),
        (["table2", "--seeds", "0,x"], "write seeds as 0,1,2"),
        (["table2", "--seeds", "-1"], "write seeds as 0,1,2"),
        (["table2", "--only", "sine*"], "table2 has omniglot-5way"),
        (["table2", "--executor", "ray:x"], "write dask:ADDRESS"),
        (["figure1", "--set", "filters=3"], "cannot be set for sine-reptile"),
    ],
)
def test_what_cannot_be_reproduced_is_said_in_one_line(arguments, says, tmp_path, capsys):
    assert main(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_missing_name_cannot_be_reproduced():
    with pytest.raises(UsageError, match=r'^cannot reproduce "None"; choose one of table1, table2'):
        targets.get(None)


def test_a_run_is_evaluated_on_the_tasks_and_the_shots_of_its_table(tmp_path):
    preset = small("sine-reptile", "outer.steps=2", "evaluation.steps=1")
    specs = tuple(replace(preset.evaluation, tasks=tasks, shots=shots) for tasks, shots in ((2, 5), (4, 7)))
    run = PlannedRun(preset, 0, tmp_path / "run", specs, "numpy")
    reproduction.work(run)
    evaluations = [r["evaluation"] for r in RunDirectory(run.path).records() if "evaluation" in r]
    assert [(e["tasks"], e["shots"]) for e in evaluations] == [(2, 5), (4, 7)]
    assert run.done()


@pytest.mark.parametrize(("freed", "trained"), [(1.0, True), (9.0, False)])
def test_a_run_waits_for_a_process_that_has_it_but_not_for_ever(tmp_path, monkeypatch, freed, trained):
    preset = small("sine-reptile", "outer.steps=1", "evaluation.steps=1")
    run, clock = PlannedRun(preset, 0, tmp_path / "run", (), "numpy"), [0.0]
    with RunDirectory(run.path).begin(preset, 0):
        pass
    other = ExitStack()
    other.enter_context(RunDirectory(run.path).resume())

    def sleep(seconds):
        clock[0] += seconds
        if clock[0] >= freed:
            other.close()

    monkeypatch.setattr(reproduction, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(reproduction, "BUSY", 2.0)
    with other, nullcontext() if trained else pytest.raises(RunIsBusy):
        reproduction.work(run)
    assert (run.trained(), clock[0]) == (trained, min(freed, 2.5))


def test_records_of_another_evaluation_do_not_count(undisturbed):
    (run, *_) = plan(targets.get("same-k").only(ONLY), (0,), undisturbed, settings=SETTINGS, ops="numpy")
    (spec,) = run.evaluations
    assert run.evaluation(spec) is not None
    assert run.evaluation(replace(spec, tasks=4)) is None
    assert RunDirectory(run.path).records()[-1]["evaluation"]["tasks"] == 3


def test_every_run_of_a_table_computes_on_one_thread(tmp_path, monkeypatch):
    """The runs of a table share the cores; the table shows the seconds of each."""
    asked = []
    monkeypatch.setattr(
        reproduction, "choose_ops", lambda name, threads=None: asked.append((name, threads)) or NUMPY
    )
    reproduction.work(PlannedRun(small("sine-reptile"), 0, tmp_path / "run", (), ops="numpy"))
    assert set(asked) == {("numpy", 1)}


def test_a_pattern_matches_whole_names():
    assert targets.get("table2").only("omniglot-5way").presets == ("omniglot-5way",)
