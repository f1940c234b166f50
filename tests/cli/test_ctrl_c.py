"""Ctrl-C, SIGTERM and a closed terminal at any time: one line, nothing lost, no process left."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reptile_np.files import locked
from tests.cli.programs import PROGRAM, run
from tests.tasks import image_sets
from tests.tasks.image_sets import jpeg
from tests.test_cli import GLYPHS
from tests.waiting import wait_for

OF_A_TERMINAL = signal.SIGINT, signal.SIGHUP
"""What Ctrl-C sends, and what closing a terminal sends."""


def interrupted(args, wait, stop=signal.SIGINT, program=PROGRAM, again=(), **options):
    """Start a program of its own session, send a signal to all of it as a terminal does, return its end.

    The signal is sent again after each number of seconds of `again`.  The program does not ignore the signals
    of a terminal, though this process may.
    """
    with subprocess.Popen(
        [*program, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in OF_A_TERMINAL],
        **options,
    ) as process:
        try:
            wait(process)
            os.killpg(process.pid, stop)
            for seconds in again:
                time.sleep(seconds)
                if process.poll() is None:
                    os.killpg(process.pid, stop)
            errors = process.communicate(timeout=60)[1]
        except BaseException:
            process.kill()  # or the end of this test would wait for a long run
            raise
    return process.returncode, errors


def handles_signals(process):
    """Whether the program has installed its own handlers: Python alone leaves SIGTERM to the system."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return caught >> (signal.SIGTERM - 1) & 1


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
@pytest.mark.parametrize("milliseconds", [0, 30, 70, 120, 220, 370])
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["train", "sine-reptile"], "nothing"),
        (["verify"], "stopped; nothing"),
        (["bench"], "stopped; no"),
    ],
    ids=["train", "verify", "bench"],
)
def test_ctrl_c_in_the_first_half_second_is_one_line(args, says, milliseconds):
    def wait(process):
        wait_for(lambda: handles_signals(process))
        time.sleep(milliseconds / 1000)

    code, errors = interrupted(args, wait)
    (line,) = [line for line in errors.splitlines() if line.startswith("reptile-np: stopped")]
    assert code == 130
    assert "stopped; nothing had begun" in line or says in line
    assert "Traceback" not in errors


DONE = """
import signal, sys
from reptile_np.cli import main
sys.argv[1:] = ["train", "sine-reptile", "--set", "outer.steps=1", "--set", "evaluation.tasks=1", "--quiet"]
code = main()
print(code, signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
"""


def test_after_the_result_was_printed_ctrl_c_changes_nothing():
    """A traceback came from the end of Python itself, or the exit code of a signal after a whole result."""
    done = subprocess.run([sys.executable, "-c", DONE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True"


def children(pid):
    """The processes whose parent is `pid`."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines()[1:] if int(line.split()[1]) == pid]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_ctrl_c_some_seconds_after_a_child_was_started_to_measure_is_one_line_and_ends_it(seconds):
    measuring = []

    def begun(process):
        while not children(process.pid):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(seconds)
        measuring.extend(children(process.pid))

    code, errors = interrupted(["bench", "--seconds", "60"], begun)
    assert (code, errors) == (130, "reptile-np: stopped; no measurements were saved\n")
    assert measuring
    assert not any(map(is_alive, measuring))


@pytest.mark.parametrize(("seconds", "again"), [(1.0, []), (0.0, [0.0, 0.05])], ids=["once", "three times"])
def test_ctrl_c_some_seconds_after_workers_were_started_ends_an_evaluation_at_once_and_ends_them(
    again, seconds
):
    working = []

    def begun(process):
        while len(children(process.pid)) < 3:  # two workers, and multiprocessing's resource tracker
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(seconds)
        working.extend(children(process.pid))

    tasks = ["--tasks", "1000000"]  # a worker gets 15,625 at a time: minutes of work
    began = time.monotonic()
    code, errors = interrupted(
        ["evaluate", "pretrained:glyphs-5way", *tasks, "--jobs", "2"], begun, again=again
    )
    assert time.monotonic() - began < 30
    assert (code, errors.splitlines()[-1]) == (130, "reptile-np: stopped; no evaluation was recorded")
    assert "Traceback" not in errors
    while any(map(is_alive, working)):  # the resource tracker ends after its parent
        assert time.monotonic() - began < 30
        time.sleep(0.05)


def test_ctrl_c_during_an_import_is_one_line_and_leaves_no_manifest(tmp_path):
    """The import waits for another one, which is this process, when it is stopped."""
    pytest.importorskip("PIL")
    to = tmp_path / "to"
    to.mkdir()
    image_sets.write(
        tmp_path, {f"photos/{c}/{i}.png": jpeg(i, 8, "PNG") for c in range(15) for i in range(8)}
    )

    def waits(process):
        while b"waiting for another import" not in os.read(process.stderr.fileno(), 65536):
            assert process.poll() is None

    lines_at_once = (
        "import sys; from reptile_np.experiments import progress; progress.LINE_EVERY = 0.0;"
        "from reptile_np.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    program = [sys.executable, "-c", lines_at_once]
    with locked(to / ".images.lock"):
        code, errors = interrupted(
            ["data", "folder", str(tmp_path / "photos"), "--to", str(to)], waits, program=program
        )
    lines = [line for line in errors.splitlines() if line.startswith("reptile-np:")]
    assert (code, len(lines)) == (130, 1)
    assert "stopped; nothing was imported" in lines[0]
    assert "Traceback" not in errors
    assert not (to / "images.json").exists()


@pytest.mark.parametrize("gap", [0.0, 0.01])
def test_a_second_ctrl_c_does_not_end_a_run_while_it_saves(tmp_path, gap):
    def begun(process):
        while not (tmp_path / "run" / "records.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.01)

    steps = ["--set", "outer.steps=5000"]
    code, errors = interrupted([*GLYPHS, *steps, "--out", "run"], begun, again=[gap] * 5, cwd=tmp_path)
    assert code == 130
    assert errors.splitlines()[-1].startswith("reptile-np: stopped; continue with: ")
    assert "Traceback" not in errors
    assert (tmp_path / "run" / "checkpoint.npz").exists()


def test_the_command_that_continues_a_run_in_a_folder_that_begins_with_a_dash_is_understood(tmp_path):
    records = tmp_path / "-run" / "records.jsonl"

    def begun(process):
        while not records.exists():
            assert process.poll() is None
            time.sleep(0.01)

    steps = ["--set", "outer.steps=100"]
    code, errors = interrupted([*GLYPHS, *steps, "--out=-run"], begun, cwd=tmp_path)
    command = errors.splitlines()[-1].partition("continue with: python -m reptile_np ")[2]
    assert (code, command) == (130, "train --out=-run --resume --ops numpy")
    assert run(*command.split(), cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("stop", [*OF_A_TERMINAL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_that_is_stopped_saves_its_state_and_prints_the_command_that_goes_on(tmp_path, stop):
    records = tmp_path / "a run" / "records.jsonl"

    def size():
        return records.stat().st_size if records.exists() else 0

    def recorded_more(process):
        before = size()
        while size() <= before:
            assert process.poll() is None
            time.sleep(0.05)

    steps = ["--set", "outer.steps=2000"]  # a record every 10 steps
    code, errors = interrupted([*GLYPHS, *steps, "--out", "a run"], recorded_more, stop, cwd=tmp_path)
    command = "python -m reptile_np train --out 'a run' --resume --ops numpy"
    assert (code, errors.splitlines()[-1]) == (130, f"reptile-np: stopped; continue with: {command}")
    assert (tmp_path / "a run" / "checkpoint.npz").exists()
    words = ["train", "--out", "a run", "--resume", "--ops", "numpy"]
    code, errors = interrupted(words, recorded_more, stop, cwd=tmp_path)
    assert (code, errors.splitlines()[-1]) == (130, f"reptile-np: stopped; continue with: {command}")


def test_a_run_without_out_that_is_stopped_says_that_nothing_was_kept():
    def announced(process):  # a long run first says that it will not be kept
        while os.read(process.stderr.fileno(), 1) not in (b"\n", b""):
            pass

    for _ in range(5):  # while NumPy imports a part of itself, one signal in five was lost
        code, errors = interrupted([*GLYPHS, "--set", "outer.steps=100000"], announced)
        assert (code, errors.splitlines()[-1]) == (
            130,
            "reptile-np: stopped; nothing was kept, because there was no --out DIR",
        )
