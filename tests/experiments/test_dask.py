"""`reproduce` on a Dask cluster: the same bytes, also if a worker process is killed in the middle."""

import os
import signal

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.parallel import dask_executor, run_all
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


def planned(out):
    return plan(TARGETS["same-k"].only("*-reptile-k[1-4]"), (0,), out, settings=SETTINGS, ops="numpy")


def test_a_cluster_that_loses_a_worker_in_the_middle_ends_with_the_same_bytes(cluster, tmp_path):
    for run in planned(tmp_path / "alone"):
        work(run)
    killed = []

    def kill_one():
        at_work = list((tmp_path / "cluster").glob("*/progress.json"))
        if at_work and not killed:
            pids = [nanny.pid for nanny in cluster.workers.values()]
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    runs = planned(tmp_path / "cluster")
    address = cluster.scheduler_address
    results = run_all(work, runs, lambda: dask_executor(address), watch=kill_one, every=0.1)
    assert killed
    assert results == [None] * len(runs)
    for run in runs:
        alone = tmp_path / "alone" / run.name
        for name in ("checkpoint.npz", "records.jsonl"):
            assert (run.path / name).read_bytes() == (alone / name).read_bytes()


def test_an_address_without_a_scheduler_is_refused_in_one_line():
    pytest.importorskip("distributed", reason="dask and distributed are not installed")
    with pytest.raises(UsageError, match="no scheduler answers"), dask_executor("nonsense://x"):
        pass
