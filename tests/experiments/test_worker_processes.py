"""Worker processes of this machine: how they start, how they stop, and how the loss of one is survived."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from multiprocessing import get_context

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import parallel, workers
from reptile_np.experiments.parallel import processes, run_all, worker_losses_in_one_line
from reptile_np.experiments.workers import saves_when_told_to_stop, worker_processes
from tests.experiments.reproduced import command as reproduce


def die(i):
    os._exit(1)


def test_a_lost_worker_process_is_one_line():
    with (
        processes(2) as executor,
        pytest.raises(UsageError, match="a worker process was lost") as error,
        worker_losses_in_one_line(),
    ):
        list(executor.map(die, range(4)))
    assert "\n" not in str(error.value)


LARGE = """
import sys
from reptile_np.experiments.workers import worker_processes

if __name__ == "__main__":
    try:
        with worker_processes(2) as executor:
            executor.map(len, [bytes(1 << 20)] * 20)  # more than a pipe holds, to workers that are starting
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_while_work_is_being_sent_to_workers_that_start_does_not_hang(tmp_path):
    """The thread that sends it used to wait for ever, because nobody read what it wrote."""
    (tmp_path / "program.py").write_text(LARGE)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


STARTING = """
import multiprocessing, os, signal, sys, time
from reptile_np.experiments.workers import worker_processes

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with worker_processes(2) as executor:
            futures = [executor.submit(time.sleep, 60.0) for _ in range(20)]
            time.sleep(float(sys.argv[1]))
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGINT)
            for future in futures:
                future.cancel()
            time.sleep(1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
def test_ctrl_c_which_reaches_all_processes_of_a_terminal_does_not_end_workers_that_are_starting(
    tmp_path, after
):
    """They printed a traceback; and the pool, which had cancelled its futures, another one."""
    (tmp_path / "program.py").write_text(STARTING)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", str(after)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def blas_threads(i):
    return os.environ["OPENBLAS_NUM_THREADS"]


def test_worker_processes_have_one_blas_thread_and_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with processes(2) as executor:
        assert list(executor.map(blas_threads, range(2))) == ["1", "1"]
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("broken", "error"), [("a process was lost", BrokenExecutor), (False, OSError)], ids=["lost", "not lost"]
)
def test_a_loss_while_another_process_is_being_started_is_a_loss_and_no_other_error_is(
    monkeypatch, broken, error
):
    """The pool closes its pipes; the new process could not be given them, and `reproduce` ended."""

    def start_two():
        with worker_processes(2) as executor:

            def start():
                executor._broken = broken
                raise OSError("handle is closed")

            monkeypatch.setattr(executor, "_spawn_process", start)
            executor.submit(abs, 1)

    with pytest.raises(error, match=broken or "handle is closed"):
        start_two()


def test_there_are_no_more_processes_than_the_system_can_wait_for(monkeypatch):
    monkeypatch.setattr(workers, "MOST_PROCESSES", 3)
    with processes(4) as executor:
        assert executor._max_workers == 3


UNGUARDED = """
import sys
from reptile_np.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    [reproduce("out", "--quiet"), ["evaluate", "pretrained:sine-maml", "--tasks", "10", "--jobs", "2"]],
    ids=["reproduce", "evaluate"],
)
def test_a_script_that_its_own_workers_would_run_ends_at_once_with_one_line(tmp_path, command):
    (tmp_path / "program.py").write_text(UNGUARDED)
    program = [sys.executable, "program.py", *command]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert 'without `if __name__ == "__main__":`' in line


def handler_after_a_refusal(i):
    before = signal.getsignal(signal.SIGTERM)
    with suppress(UsageError), saves_when_told_to_stop():
        raise UsageError("refused")
    return signal.getsignal(signal.SIGTERM) == before


def test_a_worker_s_signal_handler_is_put_back_after_work_that_is_refused():
    with worker_processes(1) as executor:
        assert executor.submit(handler_after_a_refusal, 0).result()


ORPHAN = """
import os, signal, sys, time
from contextlib import suppress
from reptile_np.experiments import workers
from reptile_np.experiments.workers import saves_when_told_to_stop, worker_processes

workers.SAVE_SECONDS = 2.0  # in the worker process too

def lose_the_exception(parent):
    with saves_when_told_to_stop():
        os.kill(parent, signal.SIGKILL)
        with suppress(KeyboardInterrupt):
            time.sleep(60)

def lose_the_exception_and_go_on(parent):
    with saves_when_told_to_stop():
        os.kill(parent, signal.SIGKILL)
        with suppress(KeyboardInterrupt):
            time.sleep(60)
        time.sleep(60)

def replace_the_exception(parent):
    with saves_when_told_to_stop():
        os.kill(parent, signal.SIGKILL)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            raise ImportError from None

def lose_the_first_signal(parent):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(parent, signal.SIGKILL)
    time.sleep(0.5)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(60)

def ignore_the_signal(parent):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(parent, signal.SIGKILL)
    time.sleep(60)

if __name__ == "__main__":
    with worker_processes(1) as executor:
        executor.submit(globals()[sys.argv[1]], os.getpid()).result()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    "work",
    [
        "lose_the_exception",
        "lose_the_exception_and_go_on",
        "replace_the_exception",
        "lose_the_first_signal",
        "ignore_the_signal",
    ],
)
def test_a_worker_whose_parent_was_killed_ends_whatever_becomes_of_the_signal(tmp_path, work):
    """NumPy's first import of `numpy.random` replaced the exception: the worker waited for work for ever."""
    (tmp_path / "program.py").write_text(ORPHAN)
    program = [sys.executable, tmp_path / "program.py", work]
    done = subprocess.run(program, capture_output=True, timeout=30, check=False)  # until the worker ends too
    assert done.returncode == -signal.SIGKILL


class WaitsForItsProcess(Executor):
    """Broken by the loss of one process; waits for the end of another, which nobody has told to stop."""

    def __init__(self):
        self.process = get_context("spawn").Process(target=time.sleep, args=(600,))

    def submit(self, function, /, *args):
        self.process.start()
        future = Future()
        future.set_exception(BrokenExecutor("a process was lost"))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.process.join()


def test_run_all_stops_the_processes_of_a_broken_executor_and_no_others(monkeypatch):
    """A `ProcessPoolExecutor` waits so if a process is lost while the next one is being started."""
    monkeypatch.setattr(parallel, "LOSSES", 1)
    somebody_elses = get_context("spawn").Process(target=time.sleep, args=(600,))
    somebody_elses.start()
    try:
        (lost,) = run_all(die, [1], WaitsForItsProcess)
        assert isinstance(lost, UsageError)
        assert somebody_elses.is_alive()
    finally:
        somebody_elses.kill()
        somebody_elses.join()
