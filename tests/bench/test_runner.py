"""A run of the benchmark measures this package in a child process, and says what a reader must know."""

import errno
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from reptile_np import cli
from reptile_np.bench import runner
from reptile_np.bench.catalogue import all_workloads
from reptile_np.errors import UsageError
from reptile_np.experiments.backend import choose_ops
from reptile_np.nn import native

ROW_KEYS = {"work", "variant", "threads", "ms_min", "ms_median", "gflops", "peak_share", "vs_numpy"}
DENSE = [workload for workload in all_workloads() if "sine dense2" in workload.name]
RUN_PY = Path(__file__).parents[2] / "benchmarks" / "run.py"
built = pytest.mark.skipif(not native.available(), reason="no native kernels are built here")


@pytest.fixture(scope="module")
def result():
    """A whole run, child process included, on three small workloads."""
    return runner.run(seconds=0.2, threads=[1], works=["sine dense2*"])


def test_every_row_has_the_promised_keys(result):
    assert all(row.keys() >= ROW_KEYS for row in result["rows"])
    assert not result["failures"]


def test_there_is_a_row_for_each_workload_and_variant(result):
    variants = {"numpy", *(f"native-{isa}" for isa in native.available() if isa != "portable16")}
    wanted = {(workload.name, variant, 1) for workload in DENSE for variant in variants}
    assert {(row["work"], row["variant"], row["threads"]) for row in result["rows"]} == wanted
    assert len(result["rows"]) == len(wanted)


def test_the_default_is_what_runs_if_nobody_chooses(result):
    assert {row["variant"] for row in result["rows"] if row["default"]} == {choose_ops("auto").name}


def test_rows_follow_from_their_times(result):
    flops = {workload.name: workload.flops for workload in DENSE}
    numpy = {row["work"]: row["ms_min"] for row in result["rows"] if row["variant"] == "numpy"}
    for row in result["rows"]:
        assert 0 < row["ms_min"] <= row["ms_median"]
        assert row["gflops"] == pytest.approx(flops[row["work"]] / row["ms_min"] / 1e6)
        assert row["vs_numpy"] == pytest.approx(numpy[row["work"]] / row["ms_min"])
        if result["peak_gflops"] is not None:
            assert row["peak_share"] == pytest.approx(row["gflops"] / result["peak_gflops"])


def test_the_result_is_json(result):
    assert json.loads(json.dumps(result)) == result


@built
def test_the_peak_is_measured_and_nobody_is_above_it(result):
    assert result["peak_gflops"] == max(result["peaks"]["1"].values())
    assert all(0 < row["peak_share"] < 1.05 for row in result["rows"])  # the peak is measured too


def test_a_busy_machine_is_said_in_a_line_and_in_a_field(monkeypatch):
    monkeypatch.setattr("reptile_np.bench.machine.cores", lambda: 4)
    monkeypatch.setattr(runner, "load", lambda: 64.0)
    result = runner.run(seconds=0.05, threads=[1], works=["sine dense2 input"], quiet=True)
    assert result["busy"] is True
    assert [warning for warning in result["warnings"] if "64.0 processes" in warning]


PART = {
    "peaks": {"slow": 60.0, "fast": 90.0},
    "failures": [],
    "rows": [{"ms_min": 2.0, "ms_median": 2.2, "variant": "numpy"}],
}
"""What a child found."""


@pytest.fixture
def children(monkeypatch):
    """Children that only print PART, on an idle machine of four cores; the options and variables of each."""
    started = []

    def start(command, env, **how):
        started.append((json.loads(command[-1]), env))
        return SimpleNamespace(returncode=0, stdout=json.dumps(PART))

    monkeypatch.setattr(runner, "subprocess", SimpleNamespace(run=start, PIPE=None))
    monkeypatch.setattr(runner, "cores", lambda: 4)
    monkeypatch.setattr(runner, "load", lambda: 0.0)
    return started


def test_by_default_one_thread_and_all_cores_are_measured(monkeypatch, children):
    runner.run(quiet=True)
    monkeypatch.setattr(runner, "cores", lambda: 100)
    runner.run(quiet=True)
    assert [options["threads"] for options, _ in children] == [1, 4, 1, 64]


@pytest.mark.parametrize("threads", [[0], [1, -2], [5], [1, 5]])
def test_more_threads_than_cores_or_none_are_refused(children, threads):
    with pytest.raises(UsageError, match=r"give 1 to 4 \(the cores, at most 64\)$"):
        runner.run(threads=threads, quiet=True)
    assert children == []


def test_one_number_or_one_text_in_place_of_a_list_is_refused(children):
    with pytest.raises(UsageError, match=r"^threads is 2; give a list: \[2\]$"):
        runner.run(threads=2, quiet=True)
    with pytest.raises(UsageError, match=r"^works is text; give a list: \['sine\*'\]$"):
        runner.run(works="sine*", quiet=True)
    assert children == []


def test_the_load_is_compared_with_the_cores_that_the_most_threads_leave(monkeypatch, children):
    monkeypatch.setattr("reptile_np.bench.machine.cores", lambda: 4)
    monkeypatch.setattr(runner, "load", lambda: 1.0)
    assert runner.run(threads=[1, 4], quiet=True)["busy"]
    assert not runner.run(threads=[1, 2], quiet=True)["busy"]


@pytest.mark.parametrize(("threads", "peak"), [([1, 2], 90), ([2, 1], 90), ([2], 45), ([3, 4], 30)])
def test_the_peak_of_one_core_is_that_of_the_fewest_threads_divided_by_their_number(children, threads, peak):
    result = runner.run(threads=threads, quiet=True)
    assert result["peak_gflops"] == peak
    assert result["peaks"] == {str(n): PART["peaks"] for n in threads}


def test_the_numbers_of_threads_share_the_seconds(children):
    runner.run(seconds=6.0, threads=[1, 2, 4], works=["sine*"], peers=["a_peer"], quiet=True)
    assert [(options["threads"], options["seconds"]) for options, _ in children] == [(1, 2), (2, 2), (4, 2)]
    assert all((o["works"], o["peers"], o["quiet"]) == (["sine*"], ["a_peer"], True) for o, _ in children)


@pytest.mark.parametrize("given", [{}, {"OMP_NUM_THREADS": "1", "A": "b"}])
def test_every_blas_library_of_a_child_has_its_number_of_threads_unless_another_is_given(
    monkeypatch, children, given
):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    runner.run(threads=[2, 3], environment=given, quiet=True)
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    for n, (_, variables) in zip("23", children, strict=True):
        wanted = {"PATH": os.environ["PATH"], **dict.fromkeys(names, n), **given}
        assert {name: variables[name] for name in wanted} == wanted


def test_as_installed_no_variable_of_the_environment_changes_numpys_speed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(RUN_PY.parent)
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run

    seen = []

    def measured(environment, **options):
        seen.append({**os.environ, **environment})
        return {"failures": [], "rows": []}

    monkeypatch.setattr(runner, "run", measured)
    for name, instead in {
        "RESULTS": tmp_path,
        "kernels_missing": lambda: None,
        "wait_for_the_load_to_fall": lambda seconds: None,
        "report": SimpleNamespace(format_table=str),
        "ratios": str,
    }.items():
        monkeypatch.setattr(run, name, instead)
    monkeypatch.setattr(os, "environ", {"OPENBLAS_CORETYPE": "Haswell", "MALLOC_ARENA_MAX": "1", "A": "b"})
    monkeypatch.setattr(sys, "argv", ["run.py", "a-record", "--peers"])
    assert run.main() == 0
    installed, with_settings = seen
    assert installed == {"A": "b"}
    assert set(run.MALLOC) < set(with_settings)


@pytest.mark.parametrize(("median", "busy"), [(2.2, False), (8.0, True)])
def test_medians_far_above_the_minima_make_a_busy_machine(monkeypatch, children, median, busy):
    monkeypatch.setitem(PART["rows"][0], "ms_median", median)
    result = runner.run(threads=[1], quiet=True)
    assert result["busy"] is busy
    assert bool([warning for warning in result["warnings"] if "4.00 times the minima" in warning]) is busy


@pytest.mark.parametrize(("threads", "held_to"), [(1, [7]), (2, [5, 7])])
def test_a_child_measures_what_its_options_say_on_as_many_cores_as_threads(
    monkeypatch, capsys, threads, held_to
):
    options = {"threads": threads, "seconds": 0.25, "quiet": True, "works": ["sine meta*"], "peers": ["peer"]}
    held, measured = [], []
    monkeypatch.setattr(sys, "argv", ["-c", json.dumps(options)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 7, 3, 5}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *which: held.append(which), raising=False)
    monkeypatch.setitem(sys.modules, "peer", SimpleNamespace(variants=lambda threads: {"theirs": threads}))
    monkeypatch.setattr(runner, "our_variants", lambda threads: {"ours": threads})
    monkeypatch.setattr(runner, "measure_all", lambda works, *how: measured.append((works, *how)) or PART)
    runner.child()
    works, variants, *how = measured[0]
    assert [workload.name for workload in works] == ["sine meta-iteration, 32 SGD steps of batch 10"]
    assert variants == {"ours": threads, "theirs": threads}
    assert (how, held) == ([threads, 0.25, True], [(0, held_to)])
    assert json.loads(capsys.readouterr().out) == PART


def test_a_pattern_chooses_by_name_whatever_the_case():
    names = [workload.name for workload in runner.chosen(["OMNIGLOT step*", "*hvp*"])]
    assert names == [w.name for w in all_workloads() if "Omniglot step" in w.name or "hvp" in w.name]
    with pytest.raises(UsageError, match="nothing"):
        runner.chosen(["*hvp*", "nothing"])


def test_a_child_that_fails_is_one_line(capfd):
    with pytest.raises(UsageError, match="exit code 1"):
        runner.run(seconds=0.1, threads=[1], peers=["no_such_peer"])
    assert "no_such_peer" in capfd.readouterr().err


@pytest.mark.parametrize(("failures", "code"), [([], 0), (["a workload, native-avx2: wrong"], 1)])
def test_the_command_exits_with_1_if_a_check_does_not_hold(
    monkeypatch, capsys, tmp_path, result, failures, code
):
    monkeypatch.setattr(runner, "run", lambda *args, **options: {**result, "failures": failures})
    assert cli.main(["bench", "--json", str(tmp_path / "bench.json")]) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == json.loads((tmp_path / "bench.json").read_text())
    assert cli.main(["bench"]) == code
    assert ("WRONG" in capsys.readouterr().out) == bool(failures)


def fails_with(error):
    def function(*args, **options):
        raise error

    return function


def test_a_json_file_of_before_is_kept_if_the_measurement_fails(monkeypatch, capsys, tmp_path):
    def run(*args, **options):
        raise UsageError("failed")

    monkeypatch.setattr(runner, "run", run)
    kept, new = tmp_path / "kept.json", tmp_path / "new.json"
    kept.write_text("old")
    for file in (kept, new):
        assert cli.main(["bench", "--json", str(file)]) == 2
    assert (kept.read_text(), new.exists()) == ("old", False)


def test_a_result_that_cannot_be_written_is_shown_first(monkeypatch, capsys, tmp_path, result):
    monkeypatch.setattr(runner, "run", lambda *args, **options: result)
    monkeypatch.setattr(os, "replace", fails_with(OSError(errno.ENOSPC, "No space left on device")))
    file = tmp_path / "bench.json"
    assert cli.main(["bench", "--json", str(file)]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == result
    reason = "cannot be written (No space left on device); the result is on standard output"
    assert said.err.splitlines()[-1] == f"reptile-np: --json {file}: {reason}"


def test_a_file_in_a_folder_where_none_can_be_made_is_refused_before_anything_is_measured(
    monkeypatch, capsys, tmp_path
):
    """The file itself may be writable: it would be replaced by a new one."""
    file = tmp_path / "old.json"
    file.write_text("old")
    monkeypatch.setattr(
        tempfile, "TemporaryFile", fails_with(PermissionError(errno.EACCES, "Permission denied"))
    )
    assert cli.main(["bench", "--json", str(file)]) == 2
    assert "old.json: cannot be written (Permission denied)" in capsys.readouterr().err
    assert file.read_text() == "old"


def test_a_link_is_kept_and_the_file_that_it_names_is_written(monkeypatch, capsys, tmp_path, result):
    monkeypatch.setattr(runner, "run", lambda *args, **options: result)
    link, file = tmp_path / "link.json", tmp_path / "file.json"
    link.symlink_to(file)
    assert cli.main(["bench", "--works", "none of these", "--json", str(link), "--threads", "0"]) == 2
    assert link.is_symlink()
    assert not file.exists()
    assert cli.main(["bench", "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(file.read_text()) == result


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_json_file_is_refused_before_anything_is_measured(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert cli.main(["bench", "--json", str(tmp_path / "pipe")]) == 2
    assert "is not a regular file; give the name of one, or - for" in capsys.readouterr().err


def test_the_command_passes_its_options_on(monkeypatch, capsys, result):
    given = {}

    def run(seconds, threads, works, quiet):
        given.update(seconds=seconds, threads=threads, works=works, quiet=quiet)
        return result

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["bench", "--works", "a*", "b", "--threads", "1", "2", "--seconds", "3", "--quiet"]) == 0
    assert given == {"seconds": 3.0, "threads": [1, 2], "works": ["a*", "b"], "quiet": True}


@built
def test_kernels_in_the_environment_that_are_not_here_are_one_line(monkeypatch, capfd):
    monkeypatch.setenv("REPTILE_NP_OPS", "mmx")
    assert cli.main(["bench", "--seconds", "0.1", "--threads", "1", "--works", "sine dense2 input"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("reptile-np: REPTILE_NP_OPS is 'mmx'; choose one of")
