"""Real closed, full and ASCII streams, real terminals, no home folder."""

import codecs
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from reptile_np.cli import terminal
from tests.cli.programs import PROGRAM, environment, run
from tests.test_cli import GLYPHS


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
