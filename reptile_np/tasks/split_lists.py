"""The lists that say to which split a class or an image belongs: CSV files with a heading.

Verified by ``tests/tasks/test_folder_splits.py`` and ``tests/tasks/test_mini_imagenet_refusals.py``.
"""

from __future__ import annotations

import csv
import io

__all__ = ["read_table"]


def read_table(content: bytes, *columns: str) -> list[list[str]]:
    """Return the rows below the heading of a CSV file in UTF-8; empty lines do not count.

    Raises
    ------
    ValueError
        If the heading is not `columns`, or a row has another number of fields.
    """
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=None))  # any line ends
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not rows or tuple(rows[0][1]) != columns:
        raise ValueError(f"the first line is not {','.join(columns)} (with commas); begin the list with it")
    for line, row in rows:
        if len(row) != len(columns):
            raise ValueError(f"line {line} has {len(row)} fields instead of {len(columns)}")
    return [row for _, row in rows[1:]]
