"""The result of a check: the worst direction, the relative error there, and the suspected cause.

Verified by ``tests/checks/test_check_report.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CheckFailure", "Report", "passed"]


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes
    ----------
    check : str
        What was checked.
    direction : str
        The worst direction.
    error, tolerance : float
        The relative error in that direction, and the largest that is accepted.
    suspect : str
        The suspected cause of the error; empty if the check holds.
    unmeasured : tuple of str
        Directions about which the check says nothing: the whole derivative there is smaller than the
        rounding error of what was differentiated.  Directions in which the derivative to be checked is
        exactly zero are not listed.
    """

    check: str
    direction: str
    error: float
    tolerance: float
    suspect: str = ""
    unmeasured: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance (NaN is not)."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        """Return the report as text."""
        verdict = "right, worst" if self.holds else "wrong"
        if self.holds and self.direction in self.unmeasured:
            verdict = "nothing found, not even measured"
        lines = [
            f"{self.check}: {verdict} along {self.direction}, relative error {self.error:.0e} "
            f"(tolerance {self.tolerance:.0e})"
        ]
        if self.suspect:
            lines.append(f"  suspect: {self.suspect}")
        if self.unmeasured:
            hidden = ", ".join(self.unmeasured)
            lines.append(f"  not measured, hidden by rounding errors or higher orders: {hidden}")
        return "\n".join(lines)


class CheckFailure(AssertionError):
    """A check that does not hold; `report` has the numbers."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report


def passed(report: Report) -> Report:
    """Return the report of a check that holds.

    Raises
    ------
    CheckFailure
        If it does not.
    """
    if not report.holds:
        raise CheckFailure(report)
    return report
