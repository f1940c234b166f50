"""`reproduce` on a Dask cluster: the same bytes, also if a worker process is killed in the middle."""

import os
import signal
import time
from functools import partial

import pytest

from reptile_np.cli import main, status
from reptile_np.errors import UsageError
from reptile_np.experiments import parallel
from reptile_np.experiments.cluster import dask_executor
from reptile_np.experiments.parallel import run_all
from reptile_np.experiments.reproduction import plan, work
from reptile_np.experiments.targets import TARGETS

SETTINGS = ["outer.steps=40", "evaluation.tasks=3", "evaluation.steps=2", "filters=8", "tasks.classes=60"]

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask's own clients and event loops


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="dask and distributed are not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def planned(out, only="*-reptile-k[1-4]", seeds=(0,)):
    return plan(TARGETS["same-k"].only(only), seeds, out, settings=SETTINGS, ops="numpy")


def command(address, out, only="*-reptile-k[1-4]", seeds=(0,)):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [
        "reproduce", "same-k", "--only", only, "--seeds", ",".join(map(str, seeds)), "--ops", "numpy",
        "--out", str(out), "--executor", f"dask:{address}", *settings,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A directory in which the runs were done one after the other, in this process."""
    out = tmp_path_factory.mktemp("alone")
    for run in planned(out):
        work(run)
    return out


def same_bytes(runs, alone):
    names = ("checkpoint.npz", "records.jsonl")
    return all(
        (run.path / name).read_bytes() == (alone / run.name / name).read_bytes()
        for run in runs
        for name in names
    )


def test_the_command_does_the_same_as_local_runs_though_workers_are_in_another_directory(
    cluster, alone, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)  # the workers stay where they were started
    only = "*-reptile-k[34]"
    assert main([*command(cluster.scheduler_address, "runs", only), "--quiet"]) == 0
    assert "not done" not in capsys.readouterr().err
    assert same_bytes(planned(tmp_path / "runs", only), alone)


def test_after_ctrl_c_workers_end_what_they_have_begun_and_begin_no_more(
    cluster, tmp_path, monkeypatch, capsys
):
    def interrupt(lines):
        if list(tmp_path.glob("*/config.json")):
            raise KeyboardInterrupt

    monkeypatch.setattr(status.Status, "show", interrupt)
    monkeypatch.setattr(parallel, "run_all", partial(run_all, every=0.05))
    seeds = range(3)
    assert main(command(cluster.scheduler_address, tmp_path, seeds=seeds)) == 130
    assert "the Dask workers finish the runs that they have begun" in capsys.readouterr().err
    with dask_executor(cluster.scheduler_address) as executor:
        list(executor.map(abs, range(4)))  # would come after all runs that still wait
    runs = planned(tmp_path, seeds=seeds)
    begun = [run for run in runs if run.path.exists()]
    deadline = time.monotonic() + 60
    while not all(run.done() for run in begun):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 0 < len(begun) < len(runs)


def test_a_cluster_that_loses_a_worker_in_the_middle_ends_with_the_same_bytes(cluster, alone, tmp_path):
    killed = []

    def kill_one():
        at_work = list(tmp_path.glob("*/progress.json"))
        if at_work and not killed:
            pids = [nanny.pid for nanny in cluster.workers.values()]
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    runs = planned(tmp_path)
    address = cluster.scheduler_address
    results = run_all(work, runs, lambda: dask_executor(address), watch=kill_one, every=0.1)
    assert killed
    assert results == [None] * len(runs)
    assert same_bytes(runs, alone)


def test_a_cluster_that_is_shut_down_is_one_line_after_the_table(tmp_path, monkeypatch, capfd):
    distributed = pytest.importorskip("distributed", reason="dask and distributed are not installed")
    cluster = distributed.LocalCluster(n_workers=0, dashboard_address=None)  # the runs wait for a worker
    monkeypatch.setattr(status.Status, "show", lambda lines: cluster.close())
    assert main(command(cluster.scheduler_address, tmp_path)) == 1
    captured = capfd.readouterr()
    runs = planned(tmp_path)
    assert all(run.preset.name in captured.out for run in runs)
    what_is_missing, line = captured.err.splitlines()
    assert "4 of 4 runs are not done" in what_is_missing
    assert line.split(": ")[1] == f"{runs[0].name} and 3 more"
    assert "was shut down or is out of reach" in line


def test_an_address_without_a_scheduler_is_refused_in_one_line():
    pytest.importorskip("distributed", reason="dask and distributed are not installed")
    with pytest.raises(UsageError, match="no scheduler answers"), dask_executor("nonsense://x"):
        pass
