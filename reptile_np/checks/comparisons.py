"""Stated derivatives against measured ones: whether they agree, and the first explanation that fits.

Verified by ``tests/checks/test_checks.py`` and ``tests/checks/test_precision.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reptile_np.checks.differences import Slope
from reptile_np.checks.report import Report, passed
from reptile_np.meta.inner_loop import Array

__all__ = ["ROUNDINGS", "Comparison", "Judge"]

ROUNDINGS = 10
"""Rounding errors that a sum of many terms may have, in units of the relative precision."""

KINK = "a kink (ReLU, maximum) close to φ"


@dataclass(frozen=True)
class Comparison:
    """A stated derivative against a measured one.

    `typical` is the size that the stated derivative has in a typical direction of this kind; None if
    the direction is one of the random ones over all of φ, whose sizes are taken together.
    """

    direction: str
    stated: Array
    measured: Slope
    typical: float | None = None

    @property
    def error(self) -> float:
        """The distance of the two, at least the uncertainty of the measured one; infinite if NaN."""
        distance = float(np.linalg.norm(self.stated - self.measured.value))
        return math.inf if math.isnan(distance) else max(distance, self.measured.uncertainty)

    @property
    def size(self) -> float:
        """The norm of the measured derivative."""
        return float(np.linalg.norm(self.measured.value))


@dataclass(frozen=True)
class Judge:
    """Compares errors with the size of the derivative and with what rounding hides.

    Parameters
    ----------
    check, truth
        What is checked, and what it is compared with: for the report.
    tolerance
        The largest accepted relative error.  In a direction over all of φ it is relative to the root mean
        square of the derivatives measured in all such directions; in a piece of φ, to the derivative in that
        piece.
    single
        Whether what was differentiated is rounded to float32.  Then the tolerance may be out of reach,
        which the report says.

    If the derivative in a piece of φ is smaller than the rounding error of its measurement, the piece is not
    judged.  It is then reported as not measured, unless the derivative to be checked is exactly zero there,
    as the gradient of a bias before batch norm is.  (Along such a bias a Hessian product is a rounding error,
    not exactly zero, so `check_hvp` reports the bias as not measured.)  If the derivative in a direction over
    all of φ is that small, a float64 model passes, because at a minimum every slope is zero; for a float32
    model only `tolerance` counts.
    """

    check: str
    truth: str
    tolerance: float
    single: bool = False

    def verdict(self, comparisons: Sequence[Comparison], hint: str = "", only: str = "") -> Report:
        """Return the report on the worst comparison.

        `only` is put after the names of the pieces of φ, if only some of them are wrong.

        Raises
        ------
        CheckFailure
            If an error is larger than accepted; `hint` is the suspected cause if no other fits.
        """
        whole = [c.size**2 for c in comparisons if c.typical is None]
        together = math.sqrt(sum(whole) / len(whole)) if whole else 0.0

        def hidden(c: Comparison) -> float:
            whole_float32 = self.single and c.typical is None
            return 0.0 if whole_float32 else ROUNDINGS * c.measured.rounding

        def own(c: Comparison) -> float:
            return together if c.typical is None else max(c.size, c.typical)

        def relative(c: Comparison) -> float:
            if not c.stated.any() and not c.measured.value.any():
                return 0.0
            error = c.error / max(own(c), hidden(c) / self.tolerance, 1e-300)
            return math.inf if math.isnan(error) else error

        def kinked(c: Comparison) -> bool:
            return c.measured.jump > max(self.tolerance * own(c), 4 * ROUNDINGS * c.measured.rounding)

        def disturbed(c: Comparison) -> bool:
            return c.measured.uncertainty > max(self.tolerance * own(c), hidden(c)) or kinked(c)

        def measured(c: Comparison) -> bool:
            return own(c) > hidden(c) or not c.stated.any()

        wrong = [c for c in comparisons if not relative(c) <= self.tolerance]
        worst = max(wrong or [c for c in comparisons if measured(c)] or comparisons, key=relative)
        kinks = [c for c in comparisons if kinked(c)]
        if kinks and (not wrong or any(math.isinf(c.measured.jump) for c in kinks)):
            worst = max(kinks, key=lambda c: c.measured.jump / max(own(c), 1e-300))
            error = worst.measured.jump / max(own(worst), 1e-300)
            suspect = (
                f"{self.truth} jumps at φ: there is a kink (ReLU, maximum) exactly at φ, and no derivative"
            )
            return passed(Report(self.check, worst.direction, error, self.tolerance, suspect))
        suspect, reached = "", self.tolerance
        if own(worst) > hidden(worst):  # a tolerance that rounding allows
            reached = max(reached, hidden(worst) / own(worst))
        error = relative(worst) / self.tolerance * reached
        if wrong:
            pieces = [c for c in comparisons if c.typical is not None]
            right = [c for c in pieces if relative(c) <= self.tolerance and own(c) > hidden(c)]  # and not 0
            names = ", ".join(c.direction for c in pieces if not relative(c) <= self.tolerance)
            suspect = f"only {names}{only}" if names and right else hint
            if any(map(disturbed, wrong)):
                suspect += f"{', or ' if suspect else ''}{KINK}"
            suspect = self._explanation(comparisons) or suspect
            if all(c.measured.constant for c in comparisons):
                error = math.inf  # relative to 0
        not_measured = tuple(c.direction for c in comparisons if not measured(c))
        return passed(Report(self.check, worst.direction, error, reached, suspect, not_measured))

    def _explanation(self, comparisons: Sequence[Comparison]) -> str:
        """Return the first explanation that fits all comparisons, or nothing."""
        stated = np.concatenate([np.ravel(c.stated) for c in comparisons])
        truths = np.concatenate([np.ravel(c.measured.value) for c in comparisons])
        if not np.isfinite(stated).all():
            return f"the {self.check} is not finite"
        if not np.isfinite(truths).all():
            return (
                f"{self.truth} is not finite: a loss or a gradient at φ, or close to it, is infinite or NaN"
            )
        if not stated.any():
            return f"the {self.check} is zero"
        if all(c.measured.constant for c in comparisons):
            return f"{self.truth.removeprefix('the slope of ')} does not change with phi: does it use phi?"
        factor = float(stated @ truths / (truths @ truths)) if truths.any() else 0.0
        left = float(np.linalg.norm(stated - factor * truths) / np.linalg.norm(stated))
        known = 1e-2 if self.single else 1e-4
        if left <= min(known, 0.1 * abs(factor - 1)) and f"{factor:.4g}" != "1":
            return f"the {self.check} is {factor:.4g} times {self.truth}{_cause(factor, known)}"
        if self.single and abs(factor - 1) <= 1e-2 and left <= 1e-2:
            return (
                "float32 rounding only: the model computes in float32, and its slopes are accurate to about "
                f"{max(left, 1e-4):.0e}; compute in float64, or give tolerance=1e-2"
            )
        return ""


def _cause(factor: float, known: float) -> str:
    """Return what the factor suggests, if it is -1, N or 1 / N to the relative precision `known`."""
    if abs(factor + 1) <= known:
        return ": a wrong sign?"
    count = max(factor, 1 / factor)
    if round(count) >= 2 and abs(count - round(count)) <= known * count:
        return ": a mean in one and a sum in the other?"
    return ""
