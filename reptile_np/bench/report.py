"""The measurements as text, in 80 columns: what the default variant does first, then every variant.

Verified by ``tests/bench/test_report.py``.
"""

from __future__ import annotations

import textwrap

from reptile_np.bench.measurement import Row
from reptile_np.bench.runner import Measurements

__all__ = ["WIDTH", "format_table", "milliseconds"]

WIDTH = 80


def format_table(result: Measurements) -> str:
    """Return the whole report."""
    rows, failures = result["rows"], result["failures"]
    lines = [_wrapped(f"{key}: {value}") for key, value in result["machine"].items()]
    for n, peaks in result["peaks"].items():
        shown = ", ".join(f"{isa} {gflops:.0f}" for isa, gflops in peaks.items())
        lines.append(f"FMA peak in GFLOP/s, threads = {n}: {shown or 'not measured, no kernels are built'}")
    lines += [_wrapped(f"NOTE: {warning}") for warning in result["warnings"]]
    if default := next((row["variant"] for row in rows if row["default"]), ""):
        lines += ["", f"The default variant, {default} (least times):"]
        lines.append(f"{'':46}{'thr':>4}{'ms':>9}{'% peak':>8}{'x NumPy':>9}")
        lines += [_short(row) for row in rows if row["default"]]
    lines += ["", "Every variant (* is the default):"]
    for work in dict.fromkeys(row["work"] for row in rows):
        lines += [
            "",
            work,
            f"{'thr':>35}{'ms min':>10}{'median':>10}{'GFLOP/s':>9}{'% peak':>8}{'x NumPy':>8}",
        ]
        lines += [_long(row) for row in rows if row["work"] == work]
    lines += ["", *(_wrapped(f"WRONG, not timed: {failure}") for failure in failures)]
    return "\n".join(lines).rstrip()


def _short(row: Row) -> str:
    """Return 76 columns."""
    numbers = f"{row['threads']:4}{milliseconds(row['ms_min']):>9}{_share(row):>8}{_ratio(row):>9}"
    return f"{row['work']:46}{numbers}"


def _long(row: Row) -> str:
    """Return 80 columns."""
    mark = "*" if row["default"] else " "
    numbers = f"{milliseconds(row['ms_min']):>10}{milliseconds(row['ms_median']):>10}{row['gflops']:9.1f}"
    return f" {mark}{row['variant']:29}{row['threads']:4}{numbers}{_share(row):>8}{_ratio(row):>8}"


def milliseconds(value: float) -> str:
    """Return a time with one to four decimals, the fewer the larger it is: 0.0021, 0.2841, 12.84, 1234.5."""
    decimals = 4 if value < 1 else 3 if value < 10 else 2 if value < 100 else 1
    return f"{value:.{decimals}f}"


def _share(row: Row) -> str:
    return "-" if row["peak_share"] is None else f"{row['peak_share']:.1%}"


def _ratio(row: Row) -> str:
    return "-" if row["vs_numpy"] is None else f"{row['vs_numpy']:.2f}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")
