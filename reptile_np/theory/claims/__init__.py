"""The statements of the paper's analysis, and what was measured of each: ``reptile-np verify``.

One module per part of the paper: `algorithm` (sections 1 and 2), `steps` (4.1, one order of the minibatches,
exact), `expansion` (4.1, expectations, exact), `network` (4.1, in float64), `manifold` (4.2 and 3),
`breakdown` (where the analysis does not apply).  What several of them measure is in `shared`, a row of the
table is a `claim.Claim`; no module of a part uses another.

Verified by ``tests/test_paper.py``, ``tests/theory/test_claims.py`` (the list of claims and tolerances)
and ``tests/theory/test_claim_mutants.py`` (each claim is refuted by a planted error).
"""

from __future__ import annotations

from collections.abc import Sequence

from reptile_np.theory.claims import algorithm, breakdown, expansion, manifold, network, steps
from reptile_np.theory.claims.claim import Claim, Value

__all__ = ["SECTIONS", "format_table", "verify"]

SECTIONS = (algorithm, steps, expansion, network, manifold, breakdown)


def verify() -> list[Claim]:
    """Measure every claim; some seconds on one core."""
    return [claim for section in SECTIONS for claim in section.verify()]


def format_table(claims: Sequence[Claim]) -> str:
    """Return the claims as text, grouped by their source, with a last line that counts."""
    lines = []
    source = None
    for claim in claims:
        if claim.source != source:
            source = claim.source
            lines += ["", source]
        mark = "holds" if claim.holds else "FAILS"
        tolerance = f" ± {claim.tolerance:g}" if claim.tolerance else ""
        lines.append(f"  {mark}  {claim.claim}")
        lines.append(f"         stated {_text(claim.stated)}{tolerance}, measured {_text(claim.measured)}")
    failed = sum(not claim.holds for claim in claims)
    summary = f"{failed} do not hold" if failed else "all hold"
    return "\n".join([*lines[1:], "", f"{len(claims)} claims: {summary}"])


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
