"""One row of the table that ``reptile-np verify`` prints, and the three ways to fill it.

Verified by ``tests/theory/test_claims.py`` and ``tests/theory/test_claim_mutants.py``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from reptile_np.theory.rational import rationals

__all__ = ["Claim", "Value", "at_least", "close", "equal"]

Value = float | str


class Claim(NamedTuple):
    """A statement that can be true or false, and what was measured.

    `tolerance` 0 means equality of fractions: nothing is rounded.  In the rows of `at_least` it is 0 too:
    the bound is the whole statement.
    """

    claim: str
    source: str
    stated: Value
    measured: Value
    tolerance: float
    holds: bool


def equal(claim: str, source: str, stated: Any, measured: Any) -> Claim:
    """Return the row of an equality of integers or fractions, or of sequences of them.

    A measured None is a coefficient that does not exist: the vector is not in the span of its terms.
    """
    stated, measured = _listed(stated), _listed(measured)
    text = ["outside the span" if x is None else str(x) for x in measured]
    return Claim(claim, source, ", ".join(map(str, stated)), ", ".join(text), 0.0, stated == measured)


def close(claim: str, source: str, stated: float, measured: float, tolerance: float) -> Claim:
    """Return the row of a measurement in floating point: ``|measured - stated| ≤ tolerance``."""
    holds = abs(measured - stated) <= tolerance
    return Claim(claim, source, float(stated), float(measured), float(tolerance), bool(holds))


def at_least(claim: str, source: str, bound: float, measured: float) -> Claim:
    """Return the row of a quantity that is shown to be large: ``measured ≥ stated``."""
    return Claim(claim, source, f">= {bound:g}", float(measured), 0.0, bool(measured >= bound))


def _listed(value: Any) -> list[Fraction | None]:
    """Return the entries as fractions, None where there is none; a float raises TypeError."""
    entries = np.array(value, dtype=object).ravel().tolist()
    return [None if entry is None else rationals([entry])[0] for entry in entries]
