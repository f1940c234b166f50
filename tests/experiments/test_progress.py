"""Progress: running means and times a person can read."""

import io
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.experiments import progress
from reptile_np.experiments.progress import Progress, Reporter, RunningMean, duration


@given(st.floats(-1e6, 1e6), st.integers(1, 300))
def test_the_running_mean_of_a_constant_is_the_constant(value, times):
    mean = RunningMean()
    for _ in range(times):
        shown = mean.add(value)
    assert shown == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
def test_the_running_mean_stays_between_the_extremes(values):
    mean = RunningMean(memory=10)
    shown = [mean.add(value) for value in values][-1]
    assert min(values) - 1e-6 <= shown <= max(values) + 1e-6


def test_the_running_mean_moves_to_a_new_value_by_one_part_in_its_memory():
    mean = RunningMean(memory=4)
    for value in (*[0.0] * 300, 1.0):
        shown = mean.add(value)
    assert shown == pytest.approx(1 / 4)
    assert mean.add(1.0) == pytest.approx(1 / 4 + 3 / 4 / 4)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59, "59s"), (75, "1m15s"), (7400, "2h03m")])
def test_durations_read_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_without_a_terminal_progress_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    assert list(Progress("count", 3).over("abc")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["count:", "1/3"], ["count:", "2/3"], ["count:", "3/3"]]
    assert all("to go" in line for line in lines)


def test_the_time_to_go_is_estimated_from_the_rounds_of_this_sitting(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    resumed = Progress("train", total=100, done=50)
    clock[0] = 20.0
    resumed.update(60)
    assert capsys.readouterr().err == "train: 60/100  1m20s to go\n"


def test_lines_are_ten_seconds_apart(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    shown = Progress("train", total=100)
    for clock[0], done in ((9.0, 1), (11.0, 2), (12.0, 3), (20.0, 4), (22.0, 5)):
        shown.update(done)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["2/100", "5/100"]


def test_quiet_progress_prints_nothing(capsys):
    list(Progress("count", 3, quiet=True).over("abc"))
    assert capsys.readouterr() == ("", "")


def test_a_standard_error_that_is_closed_or_full_does_not_end_the_loop(monkeypatch):
    class Full:
        def isatty(self):
            return False

        def write(self, text):
            raise OSError(28, "No space left on device")

        flush = write

    for stream in (None, Full()):
        monkeypatch.setattr("sys.stderr", stream)
        assert list(Progress("count", 3).over("abc")) == ["a", "b", "c"]


def test_a_name_from_elsewhere_cannot_command_the_terminal(capsys):
    list(Progress("\x1b[2Jimages\n.zip", 1).over("a"))
    assert capsys.readouterr().err.startswith(r"\x1b[2Jimages\n.zip: 1/1")


def test_a_job_of_unknown_length_shows_how_far_it_is_and_no_end(capsys, monkeypatch):
    monkeypatch.setattr("reptile_np.experiments.progress.LINE_EVERY", 0.0)
    Reporter()("listing", 1000, None)
    assert capsys.readouterr().err == "listing: 1000\n"


def test_the_lines_of_a_job_of_unknown_length_are_ten_seconds_apart_too(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    report = Reporter()
    for clock[0], done in ((0.0, 1), (9.0, 2), (11.0, 3), (12.0, 4)):
        report("listing", done, None)
    assert capsys.readouterr().err == "listing: 3\n"


def test_the_time_to_go_of_a_job_is_estimated_from_its_first_report(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    report = Reporter()
    report("decoding", 50, 100)
    clock[0] = 20.0
    report("decoding", 60, 100)
    assert capsys.readouterr().err == "decoding: 60/100  1m20s to go\n"


def test_the_bar_of_a_job_is_closed_at_its_end_or_when_another_begins(monkeypatch):
    class Bar:
        def __init__(self, what, total, done):
            self.what, self.n = what, done

        def set_postfix_str(self, note, refresh):
            pass

        def update(self, more):
            self.n += more

        def close(self):
            closed.append((self.what, self.n))

    closed = []
    monkeypatch.setattr(progress, "_tqdm", Bar)
    report = Reporter()
    report("listing", 1, 2)
    assert closed == []
    report("listing", 2, 2)
    assert closed == [("listing", 2)]
    report("decoding", 1, 3)
    closed.clear()
    report("writing", 0, 3)
    assert closed == [("decoding", 1)]


def test_a_notice_that_cannot_be_written_ends_nothing(monkeypatch, capsys):
    progress.notice("two\nlines")
    assert capsys.readouterr() == ("", "reptile-np: two\\nlines\n")
    monkeypatch.setattr(progress.sys, "stderr", None)
    progress.notice("nobody reads this")
    assert capsys.readouterr() == ("", "")

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress.sys, "stderr", Full())
    progress.notice("nobody can read this")


def test_the_bar_of_a_resumed_run_begins_at_the_steps_that_are_done(monkeypatch):
    made = []
    monkeypatch.setattr(progress.sys, "stderr", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=lambda **options: made.append(options)))
    Progress("train", 100, done=90)
    assert (made[0]["initial"], made[0]["total"]) == (90, 100)


@pytest.mark.parametrize(("seconds", "text"), [(59.6, "1m00s"), (3599.6, "1h00m"), (3600, "1h00m")])
def test_a_duration_is_rounded_to_the_nearest_second(seconds, text):
    assert duration(seconds) == text
