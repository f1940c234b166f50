"""`tests/README.md` and the errata page say what is so."""

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

import reptile_np.theory

TESTS = Path(__file__).parents[1]
README = (TESTS / "README.md").read_text(encoding="utf-8")
ERRATA = (Path(reptile_np.theory.__file__).parent / "README.md").read_text(encoding="utf-8")
CELL = r" ([^|]+) \|"
ROWS = re.findall(
    rf"^\|{CELL * 4} \[`([\w.]+)`\]\(([\w./]+)\) \| \[`(test_\w+)`\]\(test_paper.py\) \|$",
    README,
    flags=re.MULTILINE,
)


def names_in(path):
    """The test functions of a file, in its order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


PAPER = names_in(TESTS / "test_paper.py")


def numbers(cell):
    """The equation numbers in a cell: {7, 8} of "(7)-(8)"."""
    found = set()
    for first, last in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", cell):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_the_table_has_every_test_of_the_paper_once_and_no_other():
    assert sorted(row[-1] for row in ROWS) == sorted(PAPER)


def test_every_line_of_the_table_is_read():
    lines = [line for line in README.split("## From equation")[1].splitlines() if line.startswith("|")]
    assert len(ROWS) == len(lines) - 2  # less the head and the rule under it


@pytest.mark.parametrize(("function", "link"), sorted({row[4:6] for row in ROWS}))
def test_every_function_in_the_table_exists_where_its_link_leads(function, link):
    package = "reptile_np" if function.startswith("meta.") else "reptile_np.theory"
    parts = function.split(".")
    length = 2 if function.startswith(("meta.", "claims.")) else 1
    module = importlib.import_module(".".join([package, *parts[:length]]))
    assert callable(reduce(getattr, parts[length:], module))
    assert (TESTS / link).resolve() == Path(module.__file__).resolve()


def test_every_equation_of_version_1_is_in_the_table():
    found = set().union(*(numbers(version_1) for _, version_1, *_ in ROWS))
    assert found == set(range(1, 24)) - {3}
    assert "no equation (3)" in README


def test_the_three_expectations_are_in_another_order_in_version_3():
    """Version 1 has Reptile, MAML, FOMAML; version 3 has MAML, FOMAML, Reptile."""
    versions = {one: three for _, one, three, *_ in ROWS}
    assert [versions[one] for one in ("(15)", "(16)", "(17)")] == ["(35)", "(33)", "(34)"]


def test_every_row_has_a_formula():
    assert all(len(formula) > 3 for _, _, _, formula, *_ in ROWS)


def test_every_test_that_the_errata_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", ERRATA))
    assert len(named) >= 10
    assert named <= set(PAPER)


def test_every_erratum_names_its_test():
    errata = re.split(r"^\d\. \*\*", ERRATA.split("## Errata")[1].split("Not errors")[0], flags=re.MULTILINE)[
        1:
    ]
    assert len(errata) == 7
    assert all("test_" in erratum for erratum in errata)
