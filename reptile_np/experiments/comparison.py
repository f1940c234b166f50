"""What runs got beside what was published, as rows, as text and as Markdown.

Verified by ``tests/experiments/test_comparison.py``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from reptile_np.experiments.reproduction import PlannedRun

__all__ = ["HEADINGS", "MODES", "NOTE", "WIDTHS", "Row", "rows", "to_json", "to_markdown", "to_text"]

MODES = ("non_transductive", "transductive")
HEADINGS = ("seeds", "ours", "spread", "95 %", "paper", "±", "diff", "within")
WIDTHS = (26, 5, 7, 7, 7, 7, 6, 7, 8)
NOTE = (
    "spread: standard deviation over seeds; 95 %: interval over test tasks, of the mean of these seeds; "
    "within: |diff| is at most the paper's ± plus our spread (of one seed: plus the 95 % interval)"
)


@dataclass(frozen=True)
class Row:
    """One cell of a table: accuracies in per cent, or for sine waves the squared error.

    `mean`, `spread` and `interval` are over the `seeds` that are done; None if there are none (`spread`:
    fewer than two).  `paper` and `plus_minus` are None if the paper has no such number.
    """

    preset: str
    what: str
    seeds: tuple[int, ...]
    mean: float | None = None
    spread: float | None = None
    interval: float | None = None
    paper: float | None = None
    plus_minus: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    @property
    def within(self) -> bool | None:
        """Whether the difference is at most the paper's ± plus ours: `spread`, of one seed `interval`."""
        ours = self.interval if self.spread is None else self.spread
        if self.difference is None or self.plus_minus is None or ours is None:
            return None
        return abs(self.difference) <= self.plus_minus + ours


def rows(planned: Sequence[PlannedRun]) -> list[Row]:
    """Return the cells of a table from the records of its runs, in the order of the runs' presets."""
    table = []
    for _, group in groupby(planned, key=lambda run: run.preset.name):
        runs = list(group)
        for spec in runs[0].evaluations:
            found = [(run.seed, run.evaluation(spec)) for run in runs]
            done = {seed: evaluation for seed, evaluation in found if evaluation is not None}
            seeds = tuple(sorted(done))
            preset = runs[0].preset
            if preset.tasks.source == "sine":
                errors = [done[seed]["error"] for seed in seeds]
                table.append(Row(preset.name, "squared error", seeds, *_summary(errors, [])))
                continue
            for mode in MODES:
                scores = [done[seed]["accuracy"][mode] for seed in seeds]
                means = [100 * score["mean"] for score in scores]
                halves = [100 * (score["ci95"] or math.nan) for score in scores]
                published = preset.published.get((spec.shots, mode))  # type: ignore[call-overload]
                what = f"{spec.shots}-shot {mode.replace('_', '-')}"
                table.append(Row(preset.name, what, seeds, *_summary(means, halves), *(published or ())))
    return table


def _summary(
    means: Sequence[float], halves: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """Return mean, standard deviation over seeds, and the half width of the interval of the mean."""
    if not means:
        return None, None, None
    spread = statistics.stdev(means) if len(means) > 1 else None
    half = math.hypot(*halves) / len(halves) if halves else math.nan
    return statistics.fmean(means), spread, half if math.isfinite(half) else None


def to_text(title: str, table: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table in 80 columns: title, heading, for each preset a line for each cell."""
    yield title
    yield _line("", HEADINGS)
    for preset, group in groupby(table, key=lambda row: row.preset):
        yield preset
        for row in group:
            yield _line(f"  {row.what}", _texts(row))


def to_markdown(title: str, table: Sequence[Row]) -> str:
    """Return the table as Markdown, with a heading and the note on its columns."""
    lines = [
        f"### {title}",
        "",
        _markdown_row(["preset", "cell", *HEADINGS]),
        _markdown_row(["---", "---", *["---:"] * (len(HEADINGS) - 1), "---"]),
        *(_markdown_row([f"`{row.preset}`", row.what, *_texts(row)]) for row in table),
        "",
        f"{NOTE}.",
    ]
    return "\n".join(lines) + "\n"


def to_json(row: Row) -> dict[str, object]:
    """Return a cell as plain JSON values; numbers as in the table, not rounded."""
    return {**vars(row), "seeds": list(row.seeds), "difference": row.difference, "within": row.within}


def _texts(row: Row) -> list[str]:
    digits = 3 if row.what == "squared error" else 2
    numbers = [
        "–" if value is None else f"{value:{sign}.{digits}f}"
        for value, sign in (
            (row.mean, ""),
            (row.spread, ""),
            (row.interval, ""),
            (row.paper, ""),
            (row.plus_minus, ""),
            (row.difference, "+"),
        )
    ]
    within = {None: "–", True: "yes", False: "no"}[row.within]
    return [str(len(row.seeds)), *numbers, within]


def _line(first: str, cells: Sequence[str]) -> str:
    width, *widths = WIDTHS
    numbers = "".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
    return f"{first:{width}}{numbers}"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
