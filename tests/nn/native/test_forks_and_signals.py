"""Helpers are ended before a fork, of parent and child, and take no signal but those of their own faults."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from reptile_np.nn import native
from tests.nn.native.teams import convolution, on_linux, run, tasks

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


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


@on_linux
def test_a_fork_ends_the_helpers_of_the_parent_too(before):
    convolution(3)
    helpers = tasks() - before
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.02)
    assert not helpers & tasks()


FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}


def blocked(task):
    """The signals that a thread of this process blocks."""
    status = Path(f"/proc/self/task/{task}/status").read_text()
    mask = int(status.split("SigBlk:")[1].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@on_linux
def test_a_helper_blocks_every_signal_but_those_of_its_own_faults(before):
    """A fault that is blocked ends the process, and no handler, such as `faulthandler`, sees it."""
    convolution(3)
    for helper in tasks() - before:
        assert not blocked(helper) & FAULTS
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= blocked(helper)


@on_linux
@pytest.mark.parametrize("held", [set(), {signal.SIGUSR1}], ids=["none", "one"])
def test_the_caller_blocks_the_same_signals_after_helpers_were_started(before, held):
    earlier = signal.pthread_sigmask(signal.SIG_SETMASK, held)
    try:
        convolution(3)
        assert tasks() - before
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == held
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
