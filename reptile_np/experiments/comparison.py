"""The results of runs beside the published results or the costs of the runs: rows, text, Markdown.

Verified by ``tests/experiments/test_comparison.py``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from reptile_np.experiments.reproduction import PlannedRun
from reptile_np.experiments.targets import Target

__all__ = [
    "COST",
    "MODE_ORDER",
    "PAPER",
    "Columns",
    "Row",
    "columns",
    "rows",
    "to_json",
    "to_markdown",
    "to_text",
]

MODE_ORDER = ("non_transductive", "transductive")


@dataclass(frozen=True)
class Columns:
    """A group of columns of a table: headings, widths in characters, and a note."""

    headings: tuple[str, ...]
    widths: tuple[int, ...]
    note: str


OURS = Columns(
    ("seeds", "ours", "spread", "95 %"),
    (5, 7, 7, 7),
    "ours: mean over the seeds, accuracies in % (more is better), squared errors (less is better); spread: "
    "standard deviation over the seeds; 95 %: half width of the 95 % interval, over test tasks, of the mean "
    "over these seeds",
)
PAPER = Columns(
    ("paper", "±", "diff", "within"),
    (7, 6, 7, 8),
    "paper, ±: as published; diff: ours minus the paper's; within: "
    "|diff| is at most the paper's ± plus our spread (one seed: our 95 % half width)",
)
COST = Columns(
    ("gradients", "seconds"),
    (15, 9),
    "gradients: of the loss of one example, in all of a run's training, a Hessian product counted as "
    "two; seconds: of that training, the mean over seeds",
)
FIRST = 26
"""Characters of a line's first column."""


@dataclass(frozen=True)
class Row:
    """One cell of a table: accuracies in per cent, or for sine waves the squared error.

    `mean`, `spread` and `interval` are over the `seeds` that are done; None if there are none (`spread`:
    fewer than two).  `paper` and `plus_minus` are None if the paper has no such number.  `gradients` is the
    cost of a run (`Preset.gradients`), and `seconds` the mean time of training of the runs that are trained.
    """

    preset: str
    what: str
    seeds: tuple[int, ...]
    mean: float | None = None
    spread: float | None = None
    interval: float | None = None
    paper: float | None = None
    plus_minus: float | None = None
    gradients: int = 0
    seconds: float | None = None

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


def rows(target: Target, planned: Sequence[PlannedRun]) -> list[Row]:
    """Return the cells of a table from the records of its runs, in the order of the target's presets."""
    table = []
    order = {name: place for place, name in enumerate(target.presets)}
    planned = sorted(planned, key=lambda run: (order[run.preset.name], run.seed))
    for _, group in groupby(planned, key=lambda run: run.preset.name):
        runs = list(group)
        for spec in runs[0].evaluations:
            found = [(run.seed, run.evaluation(spec)) for run in runs]
            done = {seed: evaluation for seed, evaluation in found if evaluation is not None}
            seeds = tuple(done)
            preset = runs[0].preset
            times = [time for run in runs if (time := run.seconds_of_training()) is not None]
            row = partial(Row, gradients=preset.gradients, seconds=statistics.fmean(times) if times else None)
            if preset.tasks.source == "sine":
                errors = [done[seed]["error"] for seed in seeds]
                table.append(row(preset.name, "squared error", seeds, *_summary(errors, [])))
                continue
            for mode in MODE_ORDER:
                scores = [done[seed]["accuracy"][mode] for seed in seeds]
                means = [100 * score["mean"] for score in scores]
                halves = [100 * score["ci95"] for score in scores]
                published = preset.published.get((spec.shots, mode))  # type: ignore[call-overload]
                what = f"{spec.shots}-shot {mode.replace('_', '-')}"
                numbers = (*_summary(means, halves), *(published or ()))
                table.append(row(preset.name, what, seeds, *numbers))
    return table


def _summary(
    means: Sequence[float], halves: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """Return mean, standard deviation over seeds, and the half width of the interval of the mean."""
    if not means:
        return None, None, None
    spread = statistics.stdev(means) if len(means) > 1 else None
    half = math.hypot(*halves) / len(halves) if halves else None
    return statistics.fmean(means), spread, half


def columns(table: Sequence[Row]) -> Columns:
    """Return `PAPER` if the paper has a number for some cell of the table, else `COST`."""
    return PAPER if any(row.paper is not None for row in table) else COST


def to_text(title: str, table: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table in 80 columns: title, heading, for each preset a line for each cell."""
    more = columns(table)
    yield title
    yield _line("", (*OURS.headings, *more.headings), more)
    for preset, group in groupby(table, key=lambda row: row.preset):
        yield preset
        for row in group:
            yield _line(f"  {row.what}", _texts(row, more), more)


def to_markdown(title: str, table: Sequence[Row]) -> str:
    """Return the table as Markdown, with its title and the note on its columns."""
    more = columns(table)
    headings = (*OURS.headings, *more.headings)
    align = ["---:"] * len(headings)
    if more is PAPER:
        align[-1] = "---"
    lines = [
        f"**{title}**",
        "",
        _markdown_row(["preset", "cell", *headings]),
        _markdown_row(["---", "---", *align]),
        *(_markdown_row([f"`{row.preset}`", row.what, *_texts(row, more)]) for row in table),
        "",
        f"{OURS.note}; {more.note}.",
    ]
    return "\n".join(lines) + "\n"


def to_json(row: Row) -> dict[str, object]:
    """Return a cell as plain JSON values; numbers as in the table, not rounded."""
    return {**vars(row), "seeds": list(row.seeds), "difference": row.difference, "within": row.within}


def _texts(row: Row, more: Columns) -> list[str]:
    digits = 3 if row.what == "squared error" else 2
    ours = [_number(value, digits) for value in (row.mean, row.spread, row.interval)]
    if more is COST:
        return [str(len(row.seeds)), *ours, f"{row.gradients:,}", _number(row.seconds, 0)]
    paper = [_number(value, digits) for value in (row.paper, row.plus_minus)]
    within = {None: "–", True: "yes", False: "no"}[row.within]
    return [str(len(row.seeds)), *ours, *paper, _number(row.difference, digits, "+"), within]


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def _line(first: str, cells: Sequence[str], more: Columns) -> str:
    widths = (*OURS.widths, *more.widths)
    return f"{first:{FIRST}}" + "".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
