"""What all figures share: colours, settings of matplotlib, and how a figure is saved.

The colours are Okabe and Ito's (2008), which people with red-green or blue-yellow colour blindness can tell
apart, and a grey.  Some lines differ in colour alone.

Verified by ``tests/experiments/test_figures.py``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, reason
from reptile_np.files import expanded, replacing

__all__ = ["THEMES", "Draw", "Table", "check_installed", "save", "to_csv"]

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, GREY = "#56B4E9", "#E69F00", "#8C8C8C"

THEMES = {
    "": {"page": "#FFFFFF", "ink": "#1A1A1A", "grid": "#DDDDDD"},
    "-dark": {"page": "#0D1117", "ink": "#E6E6E6", "grid": "#30363D"},
}
"""File name suffix ↦ colours of the page, of text and axes, and of grid lines."""


@dataclass(frozen=True)
class Table:
    """The numbers of a figure: named columns and rows of text or numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def where(self, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows whose named columns have these values."""
        places = {self.columns.index(name): value for name, value in values.items()}
        return [row for row in self.rows if all(row[i] == value for i, value in places.items())]

    def distinct(self, column: str) -> list[Any]:
        """Return the different values of a column, in the order of their first rows."""
        place = self.columns.index(column)
        return list(dict.fromkeys(row[place] for row in self.rows))


Draw = Callable[[Any, Table, dict[str, str]], None]
"""Draw a table into a matplotlib `Figure`, with the colours of a theme."""


def check_installed() -> None:
    """Raise `UsageError` if matplotlib is missing, before long work is done for a figure.

    Imports all of it that `save` uses: a Ctrl-C that arrives inside an import can be lost.
    """
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError("figures need matplotlib; run: pip install matplotlib") from None


def save(table: Table, draw: Draw, path: str | Path, size: tuple[float, float]) -> list[Path]:
    """Write PATH.csv, and PATH.png, PATH.svg, PATH-dark.png and PATH-dark.svg; return the files written.

    Parameters
    ----------
    path
        Where to write, without an extension.
    size
        Width and height in inches.

    Raises
    ------
    UsageError
        If matplotlib is not installed, or a file cannot be written.
    """
    path = expanded(path)
    files = [path.with_name(f"{path.name}.csv")]
    try:
        with replacing(files[0]) as file:
            file.write(to_csv(table).encode())
        for suffix, theme in THEMES.items():
            with _themed(theme) as new_figure:
                figure = new_figure(size)
                draw(figure, table, theme)
                for kind in ("png", "svg"):
                    files.append(path.with_name(f"{path.name}{suffix}.{kind}"))
                    metadata = {"Date": None} if kind == "svg" else {"Software": None}
                    with replacing(files[-1]) as file:
                        figure.savefig(file, format=kind, dpi=160, facecolor=theme["page"], metadata=metadata)
    except OSError as error:
        raise UsageError(f"{files[-1]}: cannot be written ({reason(error)}); choose another --out") from None
    return files


def to_csv(table: Table) -> str:
    """Return the table as CSV; floats with six significant digits."""
    lines: list[Sequence[Any]] = [table.columns, *table.rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [f"{v:.6g}" if isinstance(v, float | np.floating) else v for v in line] for line in lines
    )
    return text.getvalue()


@contextmanager
def _themed(theme: dict[str, str]) -> Iterator[Callable[[tuple[float, float]], Any]]:
    """Yield a function that makes an empty figure in a theme; matplotlib is imported here only."""
    check_installed()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink, page = theme["ink"], theme["page"]
    settings: Any = {
        "axes.edgecolor": ink,
        "axes.facecolor": page,
        "axes.grid": True,
        "axes.labelcolor": ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": ink,
        "axes.titlesize": 10,
        "font.size": 9,
        "grid.color": theme["grid"],
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "svg.hashsalt": "reptile_np",  # the same figure gives the same bytes
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
    with rc_context(settings):
        yield lambda size: Figure(figsize=size, layout="constrained")
