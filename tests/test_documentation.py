"""Examples run, and the names that the documentation points to exist."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import reptile_np
from reptile_np.cli import main
from tests.building import in_a_virtual_environment

ROOT = Path(__file__).parent.parent
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(reptile_np.__path__, "reptile_np.")
    if not name.endswith(("__main__", "_kernels"))
]

DOCUMENTS = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not path.relative_to(ROOT).parts[0].startswith((".", "build", "dist"))
    and not in_a_virtual_environment(path, ROOT)
]


def test_the_readme_s_example_runs():
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_a_docstring_points_to_tests_that_exist(name):
    text = Path(str(importlib.import_module(name).__file__)).read_text()
    named = [path for path in re.findall(r"``(tests/[\w/]+(?:\.py)?)``", text)]
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


def test_the_readme_names_every_command_and_the_options_that_compare_copy_and_trace_runs(capsys):
    assert main([]) == 0
    commands = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert {"train", "runs", "play"} <= set(commands)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in commands if not re.search(rf"\breptile-np {name}\b", text)]
    assert not missing
    for name, option in (
        ("evaluate", "curve"),
        ("evaluate", "compare"),
        ("runs", "compare"),
        ("runs", "export"),
    ):
        assert re.search(rf"^reptile-np {name} .* --{option}\b", text, re.MULTILINE), option


def anchors(path):
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_a_document_lead_somewhere(path):
    for link in re.findall(r"\]\(([^):]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
