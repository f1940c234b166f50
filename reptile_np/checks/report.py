"""What a check says: the worst direction, how wrong, and which term is suspected."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """The outcome of a check: its worst direction, the relative error there, and a suspicion."""

    check: str
    direction: str
    error: float
    tolerance: float
    suspect: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance (NaN is not)."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        """Return the report as text."""
        verdict = "right, worst" if self.holds else "wrong"
        text = f"{self.check}: {verdict} along {self.direction}, relative error {self.error:.0e}"
        text = f"{text} (tolerance {self.tolerance:.0e})"
        return f"{text}\n  suspect: {self.suspect}" if self.suspect else text


class CheckFailure(AssertionError):
    """A check that does not hold; `report` has the numbers."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
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
