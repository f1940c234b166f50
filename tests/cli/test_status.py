"""What `reproduce` shows while runs are at work."""

import errno
import io
import json
import os
from pathlib import Path

import pytest

from reptile_np.cli import status
from reptile_np.cli.status import Status
from reptile_np.experiments.reproduction import PROGRESS, PlannedRun, plan
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.targets import TARGETS


@pytest.fixture
def planned(tmp_path):
    planned = plan(TARGETS["figure1"].only("sine-[mr]*"), (0,), tmp_path)
    planned[0].path.mkdir()
    return planned


def tell(run, done):
    (run.path / PROGRESS).write_text(json.dumps({"what": "train x", "done": done, "total": 1000}))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_every_run_has_a_line_that_is_replaced(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(status.time, "monotonic", lambda: next(clock))
    lines = Status(planned)
    tell(planned[0], 100)
    lines.show()
    assert screen.getvalue().splitlines() == [
        f"{planned[0].name}: train 100/1,000  ",
        f"{planned[1].name}: waiting",
    ]
    tell(planned[0], 200)  # 100 steps in ten seconds, 800 are left
    lines.show()
    assert "\x1b[2F\x1b[J" in screen.getvalue()
    assert f"{planned[0].name}: train 200/1,000  1m20s to go" in screen.getvalue()


def test_elsewhere_the_runs_at_work_are_shown_now_and_then(planned, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(status.sys, "stderr", log)
    clock = iter([100.0, 101.0, 140.0])
    monkeypatch.setattr(status.time, "monotonic", lambda: next(clock))
    lines = Status(planned)
    tell(planned[0], 100)
    for _ in range(3):
        lines.show()
    assert [line.partition(":")[0] for line in log.getvalue().splitlines()] == [planned[0].name] * 2


def test_a_damaged_progress_file_is_no_progress(planned, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(status.sys, "stderr", log)
    (planned[0].path / PROGRESS).write_text("{")
    Status(planned).show()
    assert log.getvalue() == ""


def test_a_report_that_is_still_the_same_is_time_that_passed(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(status.time, "monotonic", lambda: next(clock))
    lines = Status(planned)
    for done in (100, 100, 200):
        tell(planned[0], done)
        lines.show()
    assert "train 200/1,000  2m40s to go" in screen.getvalue()


def test_the_time_of_a_second_evaluation_is_not_taken_from_the_first(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    clock = iter([0.0, 600.0, 601.0, 611.0])
    monkeypatch.setattr(status.time, "monotonic", lambda: next(clock))
    lines = Status(planned)
    for done in (10, 999, 0, 100):
        tell(planned[0], done)
        lines.show()
    assert screen.getvalue().endswith(f"train 100/1,000  1m30s to go\n{planned[1].name}: waiting\n")


def test_more_runs_than_the_terminal_has_lines_are_cut_and_those_at_work_come_first(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    monkeypatch.setattr(status, "_size", lambda: os.terminal_size((80, 4)))
    tell(planned[0], 100)
    Status([planned[1]] * 5 + [planned[0]]).show()
    assert screen.getvalue().splitlines() == [f"{planned[0].name}: train 100/1,000  ", "… and 5 more"]


def test_as_many_runs_as_the_terminal_has_room_for_are_all_shown(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    monkeypatch.setattr(status, "_size", lambda: os.terminal_size((80, 4)))
    Status(planned).show()
    assert screen.getvalue().splitlines() == [f"{run.name}: waiting" for run in planned]


def test_of_runs_that_are_cut_those_that_are_done_or_waiting_come_after_those_at_work(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    monkeypatch.setattr(status, "_size", lambda: os.terminal_size((80, 4)))
    monkeypatch.setattr(PlannedRun, "done", lambda run: True)
    tell(planned[0], 100)
    Status([planned[1]] * 2 + [planned[0]]).show()
    assert screen.getvalue().splitlines() == [f"{planned[0].name}: train 100/1,000  ", "… and 2 more"]


def test_a_standard_error_that_cannot_be_written_does_not_end_the_runs(planned, monkeypatch):
    class Full(Terminal):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(status.sys, "stderr", Full())
    Status(planned).show()


def test_a_line_is_cut_to_the_width_of_a_narrow_terminal(planned, monkeypatch):
    """A line that is wrapped would be two rows, and the rows above it would stay when it is replaced."""
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    monkeypatch.setattr(status, "_size", lambda: os.terminal_size((12, 24)))
    Status(planned).show()
    assert screen.getvalue().splitlines() == [run.name[:11] for run in planned]


def test_the_size_is_that_of_the_terminal_to_which_the_lines_are_written(monkeypatch):
    asked = []
    monkeypatch.setattr(status.sys, "stderr", io.StringIO())
    assert status._size() == (80, 24)  # no terminal
    monkeypatch.setattr(status.sys.stderr, "fileno", lambda: 2, raising=False)
    monkeypatch.setattr(
        os, "get_terminal_size", lambda number: asked.append(number) or os.terminal_size((60, 15))
    )
    assert (status._size(), asked) == ((60, 15), [2])


def test_the_records_of_a_run_that_is_done_are_not_read_again(planned, monkeypatch):
    read = []
    monkeypatch.setattr(PlannedRun, "done", lambda run: read.append(run.name) or run is planned[0])
    monkeypatch.setattr(status.sys, "stderr", Terminal())
    lines = Status(planned)
    for _ in range(3):
        lines.show()
    assert read == [planned[0].name] + [planned[1].name] * 3


def test_a_run_that_another_program_began_with_another_seed_is_shown_as_waiting(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)
    RunDirectory(planned[1].path).path.mkdir()
    RunDirectory(planned[1].path).write_config(planned[1].preset, planned[1].seed + 1)
    Status(planned).show()
    assert screen.getvalue().splitlines() == [f"{run.name}: waiting" for run in planned]
    assert not planned[1].done()


def test_a_file_system_that_fails_for_a_moment_does_not_end_the_runs(planned, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(status.sys, "stderr", screen)

    def stale(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "is_file", stale)
    Status(planned).show()
    assert screen.getvalue().splitlines() == [f"{run.name}: waiting" for run in planned]
