"""What `reproduce` refuses, estimates and reports, and the files it writes."""

import errno
import json
import os

import pytest

from reptile_np import machine
from reptile_np.cli import main
from reptile_np.experiments import parallel, presets, runs
from reptile_np.experiments.reproduction import PROGRESS
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks import folder
from tests.tasks import image_sets
from tests.tasks.image_sets import jpeg


def test_the_table_of_nothing_says_how_to_go_on_and_is_written_as_markdown(tmp_path, capsys):
    command = ["reproduce", "table2", "--table", "--out", str(tmp_path), "--markdown", str(tmp_path / "t.md")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= 80
    assert "--dry-run" in captured.err
    assert (tmp_path / "t.md").read_text().startswith("**Table 2: Omniglot**")


@pytest.mark.parametrize("place", ["", ".", "folder", os.devnull, "absent/t.md"])
def test_what_is_no_place_for_the_table_is_refused_before_anything_starts(
    tmp_path, monkeypatch, capsys, place
):
    monkeypatch.setattr(parallel, "run_all", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["reproduce", "figure1", "--markdown", place]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "argument --markdown: " in line
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_table_that_cannot_be_written_is_shown_first(tmp_path, monkeypatch, capsys):
    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    file = tmp_path / "t.md"
    assert main(["reproduce", "table2", "--table", "--out", str(tmp_path), "--markdown", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("Table 2: Omniglot")
    reason = "cannot be written (No space left on device); the result is on standard output"
    assert captured.err.splitlines()[-1] == f"reptile-np: --markdown {file}: {reason}"


def test_a_report_that_a_killed_process_left_is_removed_before_the_runs_begin(tmp_path, monkeypatch):
    """Runs that waited were shown as at work."""
    left_over = []

    def begin(work, left, *more, **options):
        left_over.extend(run.name for run in left if (run.path / PROGRESS).exists())
        return [None] * len(left)

    monkeypatch.setattr(parallel, "run_all", begin)
    run = tmp_path / "sine-maml-seed0"
    run.mkdir()
    (run / PROGRESS).write_text('{"what": "train x", "done": 5, "total": 1000}')
    main(["reproduce", "figure1", "--only", "sine-maml", "--seeds", "0", "--out", str(tmp_path), "--quiet"])
    assert left_over == []
    assert not (run / PROGRESS).exists()


def test_a_run_that_another_program_began_with_another_seed_meanwhile_is_reported_after_the_table(
    tmp_path, monkeypatch, capsys
):
    """The program ended without the table of the other runs."""

    def begin(work, left, *more, **options):
        left[0].path.mkdir(parents=True)
        RunDirectory(left[0].path).write_config(left[0].preset, left[0].seed + 1)
        return [None] * len(left)

    monkeypatch.setattr(parallel, "run_all", begin)
    command = ["reproduce", "figure1", "--only", "sine-maml", "--seeds", "0", "--out", str(tmp_path)]
    assert main([*command, "--quiet"]) == 1
    captured = capsys.readouterr()
    assert "sine-maml" in captured.out
    assert "1 of 1 runs are not done" in captured.err


def test_a_failure_of_any_kind_is_reported_after_the_table(tmp_path, monkeypatch, capsys):
    error = RuntimeError("a worker died too often")
    monkeypatch.setattr(parallel, "run_all", lambda work, left, *more, **options: [error] * len(left))
    command = ["reproduce", "figure1", "--only", "sine-maml", "--seeds", "0", "--out", str(tmp_path)]
    assert main([*command, "--set", "outer.steps=7", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("Figure 1: sine waves (changed: outer.steps=7)\n")
    assert "sine-maml" in captured.out
    assert "sine-maml-seed0: RuntimeError: a worker died too often" in captured.err
    same = f"{' '.join(command[:2])} --seeds 0 --out {tmp_path} --only sine-maml --set outer.steps=7"
    assert f"{same} --dry-run" in captured.err


def test_the_command_that_shows_what_is_not_done_names_the_same_test_tasks(tmp_path, capsys):
    command = ["reproduce", "figure1", "--seeds", "0,1", "--out", str(tmp_path), "--tasks", "7"]
    assert main([*command, "--table"]) == 0
    assert f" {' '.join(command)} --dry-run" in capsys.readouterr().err


def test_a_reason_that_several_runs_share_is_said_once(tmp_path, monkeypatch, capsys):
    errors = [OSError("the disk is full"), OSError("the disk is full"), OSError("no memory")]
    monkeypatch.setattr(parallel, "run_all", lambda work, left, *more, **options: errors)
    command = ["reproduce", "figure1", "--only", "sine-maml", "--seeds", "0,1,2", "--out", str(tmp_path)]
    assert main([*command, "--quiet"]) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "reptile-np: sine-maml-seed0 and 1 more: the disk is full",
        "reptile-np: sine-maml-seed2: no memory",
    ]


def test_a_seed_that_is_named_twice_is_one_run(tmp_path, capsys):
    command = ["reproduce", "figure1", "--only", "sine-maml", "--seeds", "1,0,1", "--out", str(tmp_path)]
    assert main([*command, "--dry-run", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert sorted(run["run"] for run in runs) == ["sine-maml-seed0", "sine-maml-seed1"]


def test_a_dry_run_says_how_many_steps_a_run_that_was_begun_has_done(tmp_path, capsys):
    preset = presets.get("sine-maml")
    directory = RunDirectory(tmp_path / "sine-maml-seed0")
    with directory.begin(preset, 0):
        directory.append({"outer_step": 1500, "first_loss": 1.0})
    command = ["reproduce", "figure1", "--only", "sine-maml", "--seeds", "0", "--out", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0
    assert "sine-maml-seed0  train 1,500 of 30,000, evaluate 10-shot: " in capsys.readouterr().out


def test_runs_that_workers_did_elsewhere_are_failures_though_workers_are_given_whole_paths(
    tmp_path, monkeypatch, capsys
):
    given = []

    def do_nothing_here(work, left, *more, **options):
        given.extend(left)
        return [None] * len(left)

    monkeypatch.setattr(parallel, "run_all", do_nothing_here)
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "figure1", "--only", "sine-maml", "--seeds", "0", "--out", "a", "--data", "b"]
    assert main([*command, "--executor", "dask:tcp://x:1", "--quiet"]) == 1
    assert [(run.path, run.data) for run in given] == [(tmp_path / "a/sine-maml-seed0", tmp_path / "b")]
    captured = capsys.readouterr()
    assert "sine-maml" in captured.out
    assert f"sine-maml-seed0: not done in {tmp_path / 'a'}: the workers must see" in captured.err


def test_the_workers_of_a_cluster_are_not_counted_by_jobs(tmp_path, capsys):
    command = ["reproduce", "figure1", "--out", str(tmp_path), "--executor", "dask:tcp://x:1", "--jobs", "2"]
    assert main([*command, "--quiet"]) == 2
    assert "--executor and --jobs: choose one" in capsys.readouterr().err
    assert main([*command[:-2], "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" of one core")


def test_more_jobs_than_cores_do_not_make_the_estimate_shorter(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    command = ["reproduce", "figure1", "--only", "sine-maml", "--out", str(tmp_path), "--dry-run"]

    def estimate(jobs):
        assert main([*command, "--jobs", str(jobs)]) == 0
        return capsys.readouterr().out.splitlines()[-1].removesuffix(f" with --jobs {jobs}")

    assert estimate(1) != estimate(2) == estimate(3)


def test_data_that_are_missing_are_refused_in_one_line_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "run_all", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    for more in ([], ["--data", str(tmp_path / "nowhere")]):
        assert main(["reproduce", "table2", "--ops", "numpy", "--out", str(tmp_path / "out"), *more]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert "Omniglot" in line


def test_a_run_that_was_begun_with_data_goes_on_with_them_though_they_are_not_given_again(
    tmp_path, monkeypatch
):
    pytest.importorskip("PIL")
    image_sets.write(
        tmp_path, {f"all/{c}/{i}.png": jpeg(9 * c + i, 28, "PNG") for c in range(16) for i in range(6)}
    )
    folder.import_folder(tmp_path / "all", tmp_path / "images", size=28, grey=True)
    settings = ["tasks.source=folder", "tasks.shots=5", "outer.steps=1", "filters=2"]
    settings += ["evaluation.steps=1", "evaluation.tasks=1"]
    preset = presets.with_settings(presets.get("omniglot-5way"), settings)
    run = tmp_path / "runs" / "omniglot-5way-seed0"
    runs.train(preset, 0, NUMPY, data=tmp_path / "images", out=run, quiet=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr(parallel, "run_all", lambda work, left, *more, **options: [*map(work, left)])
    command = ["reproduce", "table2", "--only", "omniglot-5way", "--seeds", "0", "--out", str(run.parent)]
    command += [word for setting in settings for word in ("--set", setting)]
    assert main([*command, "--ops", "numpy", "--quiet"]) == 0
    last_two = RunDirectory(run).records()[-2:]
    assert [record["evaluation"]["shots"] for record in last_two] == [1, 5]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ops", "nonsense"], '--ops "nonsense": must be one of'),
        (["--data", "nowhere"], "nowhere: no such file or folder; give the place of Omniglot"),
        (["--table"], "--dry-run and --table: choose one of them"),
        (["--markdown", "t.md"], "--dry-run and --markdown: choose one of them"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would_refuse_and_what_it_would_not_do(
    tmp_path, monkeypatch, capsys, options, says
):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "table2", "--dry-run", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert says in line


@pytest.mark.parametrize("more", [["--dry-run"], []])
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("tasks.shots=1000", "same-k-glyphs-reptile-k1: tasks.shots=1000: a training class has 20 images"),
        ("evaluation.queries=20", "same-k-glyphs-reptile-k1: evaluation.queries=20: a test class has 20"),
        ("outer.steps=0", "outer.steps=0: must be at least 1"),
    ],
)
def test_a_setting_that_cannot_run_is_refused_once_before_anything_starts(
    tmp_path, monkeypatch, capsys, setting, says, more
):
    monkeypatch.setattr(parallel, "run_all", None)
    command = ["reproduce", "same-k", "--only", "*reptile-k1", "--ops", "numpy", "--out", str(tmp_path)]
    assert main([*command, "--set", setting, *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert says in line


def test_a_dry_run_needs_no_images_and_checks_the_settings_that_need_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    command = ["reproduce", "table2", "--dry-run", "--out", str(tmp_path)]
    assert main(command) == 0
    assert main([*command, "--set", "outer.steps=0"]) == 2
    assert "outer.steps=0: must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--dry-run"], ["--table"], []])
def test_an_executor_that_does_not_exist_is_refused_whatever_else_is_asked(tmp_path, capsys, more):
    assert main(["reproduce", "figure1", "--executor", "foo", "--out", str(tmp_path), *more]) == 2
    assert "write dask:ADDRESS" in capsys.readouterr().err


def test_figure_2_is_drawn_and_not_reproduced(tmp_path, capsys):
    assert main(["reproduce", "figure2", "--out", str(tmp_path)]) == 2
    assert "draw it: reptile-np figure 2" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "reptile-np figure 2" in capsys.readouterr().out
