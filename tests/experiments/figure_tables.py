"""Tables of figures, read from CSV."""

import csv

from reptile_np.experiments.figures.style import Table


def value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def from_csv(path):
    """The table that `to_csv` wrote; what reads as a number is one."""
    with path.open(newline="") as file:
        columns, *rows = csv.reader(file)
    return Table(tuple(columns), tuple(tuple(map(value, row)) for row in rows))
