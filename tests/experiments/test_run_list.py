"""The runs under a directory: steps done and accuracy, also of runs that were killed or damaged."""

import json
import os
import shutil

import pytest

from reptile_np.cli import main
from reptile_np.cli.listing import RESULT
from reptile_np.errors import UsageError
from reptile_np.experiments import run_list
from reptile_np.experiments.presets import get
from reptile_np.experiments.run_directory import RunDirectory
from tests.test_cli import GLYPHS

PIPE = "a named pipe"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs, one of them evaluated, and one that was stopped after its first record."""
    place = tmp_path_factory.mktemp("runs")
    for name, more in (("a", []), ("deep/b", ["--seed", "4", "--set", "outer.rate=0.5"])):
        assert main([*GLYPHS, *more, "--out", str(place / name), "--quiet"]) == 0
    evaluate = ["evaluate", str(place / "a"), "--tasks", "3", "--ops", "numpy", "--quiet"]
    assert main(evaluate) == 0
    assert main([*evaluate, "--split", "train"]) == 0
    stopped = place / "stopped"
    stopped.mkdir()
    (stopped / "config.json").write_bytes((place / "a" / "config.json").read_bytes())
    (stopped / "records.jsonl").write_text('{"outer_step": 1, "first_loss": 8.0}\n{"outer_st')
    return place


def test_each_run_is_found_with_its_steps_and_its_accuracy(runs):
    a, b, stopped = run_list.find(runs)
    assert [run.name for run in (a, b, stopped)] == ["a", "deep/b", "stopped"]
    assert [(run.preset, run.seed, run.outer_steps) for run in (a, b, stopped)] == [
        ("glyphs-5way", 0, 2),
        ("glyphs-5way", 4, 2),
        ("glyphs-5way", 0, 1),
    ]
    last = [json.loads(line) for line in (runs / "a" / "records.jsonl").read_text().splitlines()]
    tested = next(line["evaluation"] for line in last if line.get("evaluation", {}).get("split") == "test")
    assert a.accuracy == {mode: value["mean"] for mode, value in tested["accuracy"].items()}
    assert (a.shots, a.tasks) == (1, 3)
    assert b.tasks is None
    assert b.accuracy == json.loads((runs / "deep" / "b" / "result.json").read_text())["accuracy"]
    assert (stopped.accuracy, stopped.error) == (None, None)


def test_the_command_lists_them(runs, capsys):
    assert main(["runs", str(runs)]) == 0
    heading, *rows, empty, meaning = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "preset", "seed", "steps", "result", "K,", "tasks"]
    assert [row.split()[0] for row in rows] == ["a", "deep/b", "stopped"]
    assert (rows[0].split()[3], rows[0].split()[-2:]) == ("2", ["1,", "3"])
    assert rows[1].endswith("%")  # without an evaluation there is no number of test tasks
    assert rows[2].split()[3:] == ["1", "of", "2", "not", "finished"]
    assert max(map(len, [*rows, meaning])) <= 80
    assert (empty, meaning) == ("", RESULT)
    assert main(["runs", str(runs), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [run["outer_steps"] for run in listed] == [2, 2, 1]


def test_two_runs_are_compared_by_what_they_differ_in(runs, capsys):
    assert main(["runs", str(runs), "--compare", "a", "deep/b"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["a", "deep/b"]
    assert ["seed", "0", "4"] in rows
    assert ["outer.rate", "1.0", "0.5"] in rows
    assert not [row for row in rows if row[:1] == ["inner.steps"]]
    assert [row[:1] for row in rows[-5:]] == [["result"], ["K"], ["tasks"], [], ["result:"]]


def test_a_run_that_is_compared_may_be_elsewhere(runs, tmp_path, monkeypatch, capsys):
    shutil.copytree(runs / "deep/b", tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert main(["runs", str(runs), "--compare", "a", "other"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["a", "other"]
    assert ["seed", "0", "4"] in rows


def record_evaluation(run, shots, tasks, mean=0.5):
    scores = {"accuracy": {"transductive": {"mean": mean, "ci95": 0.1}}}
    evaluation = {"split": "test", "tasks": tasks, "shots": shots, **scores}
    RunDirectory(run).append({"outer_step": 2, "evaluation": evaluation})


@pytest.mark.parametrize("mean", [None, "high"])
def test_a_run_whose_score_is_no_number_is_left_out_and_named(runs, tmp_path, capsys, mean):
    for name in "ab":
        shutil.copytree(runs / "deep/b", tmp_path / name)
    record_evaluation(tmp_path / "b", 1, 4, mean)
    assert main(["runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "b: its result or its records have an invalid value; left out" in err
    assert [line.split()[0] for line in out.splitlines()[1:2]] == ["a"]


def test_the_result_of_a_run_is_its_transductive_and_then_its_other_accuracy(runs, tmp_path, capsys):
    run = shutil.copytree(runs / "deep/b", tmp_path / "b")
    scores = {"transductive": {"mean": 0.25, "ci95": 0.1}, "non_transductive": {"mean": 0.5, "ci95": 0.1}}
    evaluation = {"split": "test", "tasks": 9, "shots": 1, "accuracy": scores}
    RunDirectory(run).append({"outer_step": 2, "evaluation": evaluation})
    assert main(["runs", str(tmp_path)]) == 0
    assert "25.0% / 50.0%" in capsys.readouterr().out


def test_a_comparison_names_the_k_and_the_test_tasks_of_each_result(runs, tmp_path, capsys):
    for name, shots, tasks in (("a", 2, 4), ("b", 3, 1000)):
        record_evaluation(shutil.copytree(runs / "deep/b", tmp_path / name), shots, tasks)
    assert main(["runs", str(tmp_path), "--compare", "a", "b"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["K", "2", "3"] in rows
    assert ["tasks", "4", "1,000"] in rows


def test_damaged_records_are_not_counted(runs, tmp_path):
    copy = shutil.copytree(runs / "a", tmp_path / "a")
    with (copy / "records.jsonl").open("a") as file:
        file.write('{"outer_step": null}\n{"outer_step": 9, "evaluation": 3}\n[]\n{"outer')
    (damaged,) = run_list.find(tmp_path)
    (whole, *_) = run_list.find(runs)
    assert (damaged.outer_steps, damaged.accuracy) == (whole.outer_steps, whole.accuracy)


def test_a_run_is_exported_from_its_own_folder_and_two_runs_to_one_place_are_refused(
    runs, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(runs)
    assert main(["runs", "a", "--export", str(tmp_path / "kept")]) == 0
    assert (tmp_path / "kept/glyphs-5way-seed0/result.json").exists()
    for name in ("a", "b"):
        shutil.copytree(runs / "a", tmp_path / "twice" / name)
    capsys.readouterr()
    assert main(["runs", str(tmp_path / "twice"), "--export", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "twice/a and" in said
    assert f" runs {tmp_path / 'twice/a'} --export {tmp_path / 'none'}" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"preset": 1}', "null", '{"preset": {"name": "x"}}'])
def test_a_config_that_is_not_whole_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json: "):
        run_list.find(tmp_path)


def test_a_run_whose_records_are_lost_has_the_steps_of_its_result(runs, tmp_path):
    shutil.copytree(runs / "deep/b", tmp_path / "b")
    (tmp_path / "b/records.jsonl").unlink()
    (summary,) = run_list.find(tmp_path)
    assert summary.outer_steps == 2


def test_a_run_that_is_itself_the_folder_has_the_folder_s_name(runs):
    assert [run.name for run in run_list.find(runs / "a")] == [str(runs / "a")]


def test_a_run_of_sine_waves_has_an_error_and_no_accuracy(tmp_path):
    directory = RunDirectory(tmp_path / "sine")
    with directory.begin(get("sine-maml"), 0):
        evaluation = {"split": "test", "tasks": 3, "shots": 10, "error": 0.25}
        directory.append({"outer_step": 30_000, "evaluation": evaluation})
    (summary,) = run_list.find(tmp_path)
    assert (summary.error, summary.accuracy) == (0.25, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 4', '"seed": 7'),
        ('"seed": 4', '"seed": -1'),
        ('"format": 1', '"format": 99'),
        ('"filters": 2', '"filters": "2"'),
        ('"name": "glyphs-5way"', '"name": "omniglot-5way"'),
        ('"steps": 2', '"steps": 3'),
    ],
)
def test_a_run_whose_config_was_altered_is_left_out_and_named(runs, tmp_path, capsys, old, new):
    """With the reason that `evaluate` and `--resume` give."""
    for name in ("altered", "whole"):
        shutil.copytree(runs / "deep/b", tmp_path / name)
    config = tmp_path / "altered" / "config.json"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    assert [run.name for run in run_list.find(tmp_path)] == ["whole"]
    with pytest.raises(UsageError) as error:
        RunDirectory(tmp_path / "altered").config()
    assert capsys.readouterr().err == f"reptile-np: {error.value}; left out\n"
    assert main(["runs", str(tmp_path), "--compare", "altered", "whole"]) == 2
    assert capsys.readouterr().err == f"reptile-np: {error.value}\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *([("config.json", PIPE)] if hasattr(os, "mkfifo") else []),
        ("config.json", "[]"),
        ("result.json", '{"outer_steps": null}'),
        ("result.json", "[" * 100_000),
        ("records.jsonl", '{"outer_step": 4, "evaluation": {"split": "test", "accuracy": 3}}'),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_listed(runs, tmp_path, capsys, name, text):
    for run in ("damaged", "whole"):
        shutil.copytree(runs / "a", tmp_path / run)
    if text == PIPE:
        (tmp_path / "damaged" / name).unlink()
        os.mkfifo(tmp_path / "damaged" / name)
    else:
        (tmp_path / "damaged" / name).write_text(text)
    assert [run.name for run in run_list.find(tmp_path)] == ["whole"]
    (said,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "damaged") in said
    assert said.endswith("config.json: is not a file; left out" if text == PIPE else "; left out")


def test_an_evaluation_of_an_earlier_state_is_not_the_run_s_accuracy(runs, tmp_path):
    """As `evaluate` makes it if the last checkpoint is damaged."""
    shutil.copytree(runs / "a", tmp_path / "a")
    (before,) = run_list.find(tmp_path)
    scores = {"transductive": {"mean": 2.0, "ci95": 0.1}, "non_transductive": {"mean": 2.0, "ci95": 0.1}}
    evaluation = {"split": "test", "tasks": 10**6, "shots": before.shots, "accuracy": scores}
    directory = RunDirectory(tmp_path / "a")
    directory.append({"outer_step": before.outer_steps - 1, "evaluation": evaluation})
    assert run_list.find(tmp_path)[0].accuracy == before.accuracy
    directory.append({"outer_step": before.outer_steps, "evaluation": evaluation})
    assert run_list.find(tmp_path)[0].accuracy == {"transductive": 2.0, "non_transductive": 2.0}


@pytest.mark.parametrize(
    ("evaluations", "shown"),
    [
        ([(1, 3), (5, 1000)], 0),
        ([(5, 1000), (1, 3)], 1),
        ([(1, 3), (1, 9), (1, 4)], 1),
        ([(1, 9), (1, 9), (1, 3)], 1),
        ([(5, 9), (3, 20)], 1),
    ],
    ids=["preset's K", "preset's K at the end", "most tasks", "latest of two", "other K alone"],
)
def test_the_accuracy_is_that_of_the_preset_s_k_then_of_the_most_tasks_then_the_latest(
    runs, tmp_path, evaluations, shown
):
    run = shutil.copytree(runs / "deep/b", tmp_path / "b")
    for i, (shots, tasks) in enumerate(evaluations):
        record_evaluation(run, shots, tasks, i / 10)
    summary = run_list.read(run, tmp_path)
    assert summary.accuracy == {"transductive": shown / 10}
    assert (summary.shots, summary.tasks) == evaluations[shown]


def test_only_one_of_compare_and_export_is_done(runs, capsys):
    assert main(["runs", str(runs), "--compare", "a", "deep/b", "--export", "x"]) == 2
    assert "--compare and --export: choose one" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"seed": 1}, {"preset": "sine-maml"}])
def test_an_evaluation_of_another_run_is_not_the_run_s_accuracy(runs, tmp_path, change):
    shutil.copytree(runs / "a", tmp_path / "a")
    (before,) = run_list.find(tmp_path)
    scores = {"transductive": {"mean": 2.0, "ci95": 0.1}, "non_transductive": {"mean": 2.0, "ci95": 0.1}}
    evaluation = {"split": "test", "tasks": 10**6, "shots": before.shots, "accuracy": scores}
    own = {"preset": before.preset, "seed": before.seed}
    directory = RunDirectory(tmp_path / "a")
    directory.append({"outer_step": before.outer_steps, "evaluation": {**evaluation, **own, **change}})
    assert run_list.find(tmp_path)[0].accuracy == before.accuracy
    directory.append({"outer_step": before.outer_steps, "evaluation": {**evaluation, **own}})
    assert run_list.find(tmp_path)[0].accuracy == {"transductive": 2.0, "non_transductive": 2.0}
