"""A report says in one line whether a check holds, where it was worst and by how much."""

import math
import pickle

import pytest

from reptile_np.checks import CheckFailure
from reptile_np.checks.report import Report, passed


def test_a_report_says_right_or_wrong_where_and_by_how_much():
    right, wrong = Report("gradient", "w", 1e-9, 1e-6), Report("gradient", "w", 1e-3, 1e-6, suspect="kink")
    assert str(right) == "gradient: right, worst along w, relative error 1e-09 (tolerance 1e-06)"
    assert str(wrong).splitlines() == [
        "gradient: wrong along w, relative error 1e-03 (tolerance 1e-06)",
        "  suspect: kink",
    ]


def test_an_error_of_exactly_the_tolerance_holds_and_nan_does_not():
    assert Report("gradient", "w", 1e-6, 1e-6).holds
    assert not Report("gradient", "w", math.nan, 1e-6).holds


def test_only_a_report_that_holds_is_returned_and_a_failure_carries_the_other():
    right, wrong = Report("gradient", "w", 0.0, 1e-6), Report("gradient", "w", 1.0, 1e-6)
    assert passed(right) is right
    with pytest.raises(CheckFailure) as failure:
        passed(wrong)
    assert failure.value.report is wrong
    assert str(failure.value) == str(wrong)
    assert pickle.loads(pickle.dumps(failure.value)).report == wrong  # as worker processes return it


def test_a_direction_that_was_not_even_measured_is_not_called_right():
    report = Report("gradient", "w", 0.0, 1e-6, unmeasured=("w",))
    assert str(report).startswith("gradient: nothing found, not even measured along w")
    assert "not measured, hidden by rounding errors or higher orders: w" in str(report)
