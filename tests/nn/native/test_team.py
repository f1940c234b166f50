"""Threads that share a call: kept between calls, ended before a fork and at exit, same results always."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reptile_np.nn import native
from tests.nn.native.teams import close, convolution, on_linux, run, tasks

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


@pytest.mark.parametrize("threads", [2, 3, 8, 64, 1000])
def test_any_number_of_threads_gives_bitwise_identical_results(before, threads):
    expected = convolution(1)
    for _ in range(20):
        np.testing.assert_array_equal(convolution(threads), expected)


@on_linux
def test_helpers_are_kept_between_calls_and_ended_on_request(before):
    convolution(1)
    assert tasks() == before
    convolution(3)
    kept = tasks()
    assert len(kept - before) == 2
    for threads in (2, 3, 2):
        convolution(threads)
        assert tasks() == kept
    close()
    close()
    for _ in range(100):  # Linux wakes who waits for a thread shortly before it removes the thread
        if tasks() == before:
            break
        time.sleep(0.01)
    assert tasks() == before
    convolution(2)
    assert len(tasks() - before) == 1


@on_linux
def test_a_waiting_helper_uses_no_processor_time(before):
    convolution(3)
    time.sleep(0.05)  # helpers spin for a millisecond at most, then sleep
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.05


ROUNDING_UPWARD = """
ctypes.CDLL(ctypes.util.find_library("m")).fesetround(0x800)
assert np.float32(1) + np.float32(1e-9) > 1, "this thread does not round upward"
for threads in (2, 3):
    assert np.array_equal(convolution(threads), convolution(1)), threads
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="FE_UPWARD is 0x800 on x86 only")
def test_helpers_round_as_their_caller_does():
    done = run(f"import ctypes, ctypes.util\nconvolution(3)\n{ROUNDING_UPWARD}")
    assert done.returncode == 0, done.stderr


@on_linux
def test_helpers_run_on_the_cores_that_their_caller_may_use(before):
    cores = os.sched_getaffinity(0)
    try:
        for allowed in ({min(cores)}, cores, {max(cores)}, cores):
            os.sched_setaffinity(0, allowed)
            np.testing.assert_array_equal(convolution(3), convolution(1))
            assert all(os.sched_getaffinity(task) == allowed for task in tasks() - before)
    finally:
        os.sched_setaffinity(0, cores)


def test_several_python_threads_may_call_at_once(before):
    expected = convolution(1)
    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(convolution, [5] * 200):
            np.testing.assert_array_equal(y, expected)


def test_more_helpers_than_there_may_be_make_the_team_smaller(before):
    """Eight calls of 64 threads want 504 helpers; there are 256."""
    expected = convolution(1)
    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(convolution, [64] * 16):
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "last", ["convolution(3)", "threading.Thread(target=convolution, args=(3,)).start()"]
)
def test_a_process_with_helpers_ends_at_once(last):
    result = run(f"convolution(3)\n{last}\n")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_process_ends_while_a_daemon_thread_calls():
    result = run(
        "def call():\n"
        "    while True: convolution(3)\n"
        "threading.Thread(target=call, daemon=True).start()\n"
        "time.sleep(0.2)\n"
    )
    assert result.returncode == 0, result.stderr


@on_linux
def test_a_thread_that_the_system_refuses_makes_the_team_smaller_until_it_is_allowed():
    result = run(
        "import resource\n"
        "expected = convolution(1)\n"
        "os.setuid(12345) if os.getuid() == 0 else None\n"  # the limit does not bind the superuser
        "before = resource.getrlimit(resource.RLIMIT_NPROC)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, before[1]))\n"
        "for _ in range(300):\n"  # more than there are places for threads
        "    assert (convolution(5) == expected).all()\n"
        "assert len(tasks()) < 5, tasks()\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, before)\n"
        "assert (convolution(5) == expected).all()\n"
        "assert len(tasks()) == 5, tasks()\n"
    )
    assert result.returncode == 0, result.stderr


@on_linux
def test_a_team_on_one_core_is_not_much_slower_than_one_thread(before):
    """Members that wait sleep at once if there are fewer cores than members.

    Processor time of all threads: 1.24 times that of one thread, and 1.64 times if they do not sleep at once.
    """
    cores = os.sched_getaffinity(0)

    def seconds(threads):
        convolution(threads)
        start = time.process_time()
        for _ in range(20):
            convolution(threads)
        return time.process_time() - start

    try:
        os.sched_setaffinity(0, {min(cores)})
        assert min(seconds(8) for _ in range(5)) <= 1.45 * min(seconds(1) for _ in range(5))
    finally:
        os.sched_setaffinity(0, cores)


@on_linux
def test_a_signal_that_the_program_blocks_is_not_taken_by_a_thread_of_the_team():
    result = run(
        "import signal\n"
        "convolution(3)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "assert signal.sigpending() == {signal.SIGUSR1}\n"
    )
    assert result.returncode == 0, result.stderr
