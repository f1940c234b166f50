"""Real closed, full and ASCII streams, real terminals, no home folder, and Ctrl-C at any time."""

import codecs
import os
import pickle
import pty
import re
import signal
import subprocess
import sys
import termios
import time

import pytest

from reptile_np.cli import terminal
from reptile_np.files import locked
from tests.tasks import image_sets
from tests.tasks.image_sets import jpeg
from tests.test_cli import GLYPHS
from tests.theory.measured import verified

PROGRAM = [sys.executable, "-m", "reptile_np"]
OF_A_TERMINAL = signal.SIGINT, signal.SIGHUP
"""What Ctrl-C sends, and what closing a terminal sends."""


def run(*args, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 120} | options
    return subprocess.run([*PROGRAM, *args], **options)


def environment(**changes):
    """This environment with some variables changed; None: removed."""
    values = {**os.environ, **changes}
    return {name: value for name, value in values.items() if value is not None}


def on_a_terminal(*args, columns=80, **variables):
    """Run with standard output and error on a terminal of so many columns; return what it showed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    env = environment(**{"TERM": "xterm", "NO_COLOR": None, "COLUMNS": None} | variables)
    with subprocess.Popen([*PROGRAM, *args], stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # what Linux says at the end of a terminal
            pass
    os.close(ours)
    assert process.returncode in (0, 1, 2)
    return shown.decode()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_output_that_is_not_utf_8_gets_what_it_can_show(encoding):
    many = (
        "--set",
        "evaluation.tasks=40",
        "--set",
        "evaluation.steps=1",
    )  # so that an interval is printed with its ±
    trained = run(*GLYPHS, *many, env=environment(PYTHONIOENCODING=encoding), encoding=encoding)
    assert (trained.returncode, "Traceback" in trained.stderr) == (0, False)
    assert ("+/-" if encoding == "ascii" else "±") in trained.stdout


def test_in_ascii_a_power_of_several_digits_has_one_caret():
    codecs.register_error("as shown", terminal._replace_by_ascii)
    assert "2·10⁻¹² e² x¹⁰".encode("ascii", "as shown") == b"2*10^-12 e^2 x^10"


def test_the_claims_encode_in_ascii(tmp_path):
    """The program itself, given the claims that `verify` has returned to other tests."""
    (tmp_path / "claims").write_bytes(pickle.dumps(verified()))
    program = (
        "import pickle, sys; from reptile_np.theory import claims; rows = open(sys.argv.pop(), 'rb').read();"
        "claims.verify = lambda: pickle.loads(rows); from reptile_np.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "verify", tmp_path / "claims"]
    env = environment(PYTHONIOENCODING="ascii")
    shown = subprocess.run(command, env=env, encoding="ascii", capture_output=True)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.count("holds") == len(verified())
    assert "?" not in shown.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("args", [["list"], ["--help"], ["--version"], GLYPHS, ["list", "--json"]])
@pytest.mark.parametrize("unbuffered", [None, "1"])
def test_a_full_output_is_one_line(args, unbuffered):
    with open("/dev/full", "w") as full:
        done = run(*args, stdout=full, env=environment(PYTHONUNBUFFERED=unbuffered))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "standard output cannot be written (No space left on device)"
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_standard_error_does_not_end_a_run():
    with open("/dev/full", "w") as full:
        done = run(*GLYPHS, stderr=full)
    assert (done.returncode, "meta-trained" in done.stdout) == (0, True)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- 2>&-"])
def test_closed_streams_do_not_end_a_run(tmp_path, closed):
    out = tmp_path / "run"
    command = f'exec "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *PROGRAM, *GLYPHS, "--out", out], stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0
    assert (out / "result.json").exists()
    assert ("meta-trained" in done.stdout) == (not closed.startswith(">"))


def test_a_reader_that_goes_away_is_no_error():
    with subprocess.Popen([*PROGRAM, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


NO_HOME = """
import pwd, sys
def getpwuid(uid): raise KeyError(uid)
pwd.getpwuid = getpwuid
from reptile_np.cli import main
raise SystemExit(main())
"""


@pytest.mark.parametrize("args", [["data", "omniglot"], ["train", "omniglot-5way", "--ops", "numpy"]])
def test_without_a_home_folder_it_says_what_to_set(args):
    env = environment(HOME=None, XDG_CACHE_HOME=None, REPTILE_NP_DATA=None)
    done = subprocess.run([sys.executable, "-c", NO_HOME, *args], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) <= 2  # training for hours without --out is announced
    assert "XDG_CACHE_HOME" in done.stderr.splitlines()[-1]


def test_colours_only_where_a_terminal_has_them_and_nobody_forbids_them():
    escape = "\x1b["
    assert escape in on_a_terminal("list")
    assert escape in on_a_terminal("train", "nothing")
    assert escape not in on_a_terminal("list", NO_COLOR="1")
    assert escape not in on_a_terminal("list", TERM="dumb")
    assert escape not in run("list").stdout
    assert escape not in run("train", "nothing").stderr


def test_the_bar_fits_80_columns_and_is_wider_than_ten():
    pytest.importorskip("tqdm")
    shown = on_a_terminal(*GLYPHS, "--set", "outer.steps=100", NO_COLOR="1")
    bars = [part for part in re.split(r"[\r\n]+", shown) if part.startswith("train glyphs-5way:")]
    last = re.sub(r"\x1b\[A", "", bars[-1])
    assert len(last) <= 80
    assert "loss" in last
    assert len(re.search(r"\|(.*)\|", last)[1]) >= 10


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


def after(seconds):
    return lambda process: time.sleep(seconds)


@pytest.mark.parametrize("milliseconds", [80, 110, 150, 200, 300, 450])
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
    code, errors = interrupted(args, after(milliseconds / 1000))
    if code in (1, -signal.SIGINT) and "reptile_np/cli/program.py" not in errors:
        pytest.skip("Python itself was still starting")
    lines = [line for line in errors.splitlines() if line.startswith("reptile-np: stopped")]
    assert code == 130
    assert len(lines) == 1
    assert "stopped; nothing had begun" in lines[0] or says in lines[0]
    assert "Traceback" not in errors


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

    steps = ["--set", "outer.steps=50000"]
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

    steps = ["--set", "outer.steps=300"]
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

    steps = ["--set", "outer.steps=10000"]  # a record every 50 steps
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
