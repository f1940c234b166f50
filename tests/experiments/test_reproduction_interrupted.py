"""Killed, deprived of its workers or stopped by Ctrl-C, `reproduce` ends with the same bytes."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.experiments.run_directory import RunDirectory
from tests.experiments.reproduced import STEPS, checkpoints, command
from tests.waiting import wait_for

SAVES_EVERY_STEP = """
import sys
from reptile_np.cli import main
from reptile_np.experiments import sitting
sitting.SAVE_EVERY = 0  # in the worker processes too, which run this file up to here
if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
"""


@contextmanager
def started(out, *program):
    """`reproduce` as a program of its own, which Ctrl-C reaches even if this process ignores it."""
    arguments = [sys.executable, *(program or ("-m", "reptile_np")), *command(out)]
    with subprocess.Popen(
        arguments,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        try:
            yield program
        finally:
            program.kill()  # if the test fails; a program that has ended is not changed by this


def children(pid):
    """The worker processes of a program."""
    try:
        pids = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [p for p in pids if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()]
    except OSError:  # one of them has just ended
        return []


def training(out):
    """The runs that have taken two steps or more, but not all."""
    recorded = {path.parent: path.read_text().count("\n") for path in out.glob("*/records.jsonl")}
    return [run for run, steps in recorded.items() if 2 <= steps < STEPS]


def saved_steps(run):
    with np.load(run / "checkpoint.npz") as arrays:
        return int(arrays["done"])


linux = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")


@linux
def test_killed_three_times_it_ends_with_the_same_bytes(undisturbed, tmp_path):
    for kill in range(3):
        with started(tmp_path) as program:
            wait_for(lambda kill=kill: len(list(tmp_path.glob("*/progress.json"))) > kill // 2)
            workers = children(program.pid)
            program.kill()
        wait_for(lambda workers=workers: not any(os.path.exists(f"/proc/{p}") for p in workers))
    assert main([*command(tmp_path, jobs=1), "--quiet"]) == 0
    assert checkpoints(tmp_path) == checkpoints(undisturbed)


@linux
def test_lost_worker_processes_are_survived_and_their_runs_go_on(undisturbed, tmp_path):
    killed, out = set(), tmp_path / "out"
    (tmp_path / "program.py").write_text(SAVES_EVERY_STEP)
    with started(out, tmp_path / "program.py") as program:

        def ended():
            workers = children(program.pid) if training(out) else []
            if workers and len(killed) < 2 and workers[0] not in killed:
                os.kill(workers[0], signal.SIGKILL)
                killed.add(workers[0])
            return program.poll() is not None

        wait_for(ended, 120)
        assert program.returncode == 0
    assert killed
    assert checkpoints(out) == checkpoints(undisturbed)
    assert any(RunDirectory(run).sittings()[-1]["from_step"] > 0 for run in out.iterdir())


@linux
def test_ctrl_c_saves_every_run_which_goes_on_from_there(undisturbed, tmp_path):
    with started(tmp_path) as program:
        wait_for(lambda: len(training(tmp_path)) == 2)
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 130
        assert b"every run is saved" in program.stderr.read()
    saved = {run: saved_steps(run) for run in training(tmp_path)}
    assert len(saved) == 2
    assert main([*command(tmp_path, jobs=1), "--quiet"]) == 0
    assert checkpoints(tmp_path) == checkpoints(undisturbed)
    for run, steps in saved.items():
        assert RunDirectory(run).sittings()[-1]["from_step"] == steps > 0
