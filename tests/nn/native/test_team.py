"""Threads that share a call: kept between calls, ended before a fork and at exit, same results always."""

import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from reptile_np.nn import native

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")
TASKS = Path("/proc/self/task")
on_linux = pytest.mark.skipif(not TASKS.exists(), reason="threads are counted in /proc")


def convolution(threads):
    """y of one convolution of the machine's best variant, on `threads` threads."""
    from reptile_np.nn.native._kernels import ffi, lib

    table = lib.rk_dispatch(native.available()[0].encode())
    names = "height width channels kernel_height kernel_width filters stride pad_top pad_left out_height"
    numbers = (20, 20, 32, 3, 3, 64, 2, 0, 0, 10)
    shape = ffi.new("rk_conv *", dict(zip(names.split(), numbers, strict=True)) | {"out_width": 10})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 20, 20, 32)).astype(np.float32)
    w = rng.normal(size=(3, 3, 32, 64)).astype(np.float32)
    y, memory = np.empty((8, 10, 10, 64), np.float32), np.empty(table.conv_size(shape, 8) + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :]
    x, w, out = (ffi.from_buffer("float[]", a) for a in (x, w, y))
    table.conv(shape, 8, x, w, out, ffi.from_buffer(memory), threads)
    return y


def close():
    from reptile_np.nn.native._kernels import lib

    lib.rk_team_close()


def tasks():
    """The numbers of this process's threads."""
    return {int(task.name) for task in TASKS.iterdir()}


@pytest.fixture
def before():
    """This process's threads, none of them a helper; ended again after the test."""
    close()
    time.sleep(0.02)  # Linux wakes who waits for a thread shortly before it removes the thread
    yield tasks() if TASKS.exists() else set()
    close()


def run(program, timeout=60, preloaded=""):
    """Run a program that has `convolution`, `close` and `tasks` in its own interpreter."""
    head = "import os, sys, threading, time\nfrom tests.nn.native.test_team import *\n"
    return subprocess.run(
        [sys.executable, "-c", head + program],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"LD_PRELOAD": str(preloaded)},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


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


@on_linux
def test_a_forked_process_has_no_helper_and_starts_its_own():
    result = run(
        "expected = convolution(1)\n"
        "for _ in range(20):\n"
        "    convolution(3)\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        alone = len(tasks()) == 1\n"
        "        same = (convolution(3) == expected).all() and len(tasks()) == 3\n"
        "        os._exit(0 if alone and same else 1)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "    assert (convolution(3) == expected).all()\n"
    )
    assert result.returncode == 0, result.stderr


@on_linux
def test_a_fork_while_other_threads_call_neither_hangs_nor_breaks_either_process():
    result = run(
        "expected, stop = convolution(1), threading.Event()\n"
        "def call():\n"
        "    while not stop.is_set():\n"
        "        assert (convolution(3) == expected).all()\n"
        "callers = [threading.Thread(target=call) for _ in range(3)]\n"
        "for caller in callers: caller.start()\n"
        "import warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "for _ in range(20):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(0 if (convolution(3) == expected).all() else 1)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "stop.set()\n"
        "for caller in callers: caller.join()\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


SLOW_REGISTRATION = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int __register_atfork(void (*before)(void), void (*parent)(void), void (*child)(void), void *library)
{
    usleep(300000);
    int (*registers)(void (*)(void), void (*)(void), void (*)(void), void *);
    registers = dlsym(RTLD_NEXT, "__register_atfork");
    return registers(before, parent, child, library);
}
"""


@on_linux
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_fork_during_the_first_call_of_another_thread_does_not_hang(tmp_path):
    """The registration of the fork handlers is made slow, so that a fork during it is certain."""
    (tmp_path / "slow.c").write_text(SLOW_REGISTRATION)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", tmp_path / "slow.so", tmp_path / "slow.c", "-ldl"], check=True
    )
    result = run(
        "from reptile_np.nn.native import _kernels\n"
        "import warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "caller = threading.Thread(target=convolution, args=(3,))\n"
        "caller.start()\n"
        "time.sleep(0.1)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    convolution(3)\n"
        "    os._exit(0)\n"
        "end = time.monotonic() + 10\n"
        "while os.waitpid(pid, os.WNOHANG) == (0, 0):\n"
        "    if time.monotonic() > end:\n"
        "        os.kill(pid, 9)\n"
        "        raise SystemExit('the child hangs')\n"
        "    time.sleep(0.01)\n"
        "caller.join()\n",
        preloaded=tmp_path / "slow.so",
    )
    assert (result.returncode, result.stderr) == (0, "")


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
