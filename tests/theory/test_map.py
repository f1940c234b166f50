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
ROWS = re.findall(r"^\| (.+?) \| `([\w.]+)` \| `(test_\w+)` \|$", README, flags=re.MULTILINE)


def names_in(path):
    """The test functions of a file, in its order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


PAPER = names_in(TESTS / "test_paper.py")


def test_the_table_has_every_test_of_the_paper_once_and_no_other():
    assert sorted(test for _, _, test in ROWS) == sorted(PAPER)


@pytest.mark.parametrize("function", sorted({function for _, function, _ in ROWS}))
def test_every_function_in_the_table_exists(function):
    package = "reptile_np" if function.startswith("meta.") else "reptile_np.theory"
    parts = function.split(".")
    length = 2 if function.startswith(("meta.", "claims.")) else 1
    module = importlib.import_module(".".join([package, *parts[:length]]))
    assert callable(reduce(getattr, parts[length:], module))


def test_every_equation_is_in_the_table():
    numbers = set()
    for statement, _, _ in ROWS:
        for first, last in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", statement):
            numbers |= set(range(int(first), int(last or first) + 1))
    assert numbers == set(range(1, 24)) - {3}  # the paper's text has no equation (3)


def test_every_test_that_the_errata_page_names_exists():
    named = set(re.findall(r"\btest_\w+", ERRATA))
    assert len(named) >= 10
    assert named <= set(PAPER)


def test_every_erratum_names_its_test():
    errata = re.split(r"^\d\. \*\*", ERRATA.split("## Errata")[1].split("Not errors")[0], flags=re.MULTILINE)[
        1:
    ]
    assert len(errata) == 6
    assert all("test_" in erratum for erratum in errata)
