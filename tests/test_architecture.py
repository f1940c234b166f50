"""Packages import only earlier ones in PACKAGES, imports are light, and every file is short.

``pytest -rP tests/test_architecture.py -k picture`` draws the packages and what each imports.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import reptile_np

PACKAGE = Path(reptile_np.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = [  # a package imports only packages before it
    "errors",
    "files",
    "meta",
    "nn",
    "nn.native",
    "tasks",
    "theory",
    "checks",
    "experiments",
    "bench",
    "pretrained",
    "play",
    "cli",
    "__main__",
]
MAY_USE = {  # cli → {experiments, bench} → {theory, tasks, checks} → nn → meta
    "meta": set(),
    "nn": {"meta"},
    "tasks": {"nn", "meta"},
    "theory": {"nn", "meta", "checks"},  # theory.checks: the former name of reptile_np.checks
    "checks": {"nn", "meta", "theory"},
    "experiments": {"nn", "meta", "tasks", "theory"},
    "bench": {"nn", "meta", "tasks", "experiments"},
    "pretrained": {"nn", "meta", "experiments"},
    "play": {"nn", "meta", "tasks", "theory", "experiments", "pretrained"},
    "cli": {"nn", "meta", "tasks", "theory", "checks", "experiments", "bench", "pretrained", "play"},
    "__main__": {"cli"},
    "__init__": {"experiments", "pretrained"},  # reptile_np.load, when it is called
    "errors": set(),
    "files": set(),
    "machine": set(),
}
EVERYWHERE = {"errors", "files", "machine"}
RUNTIME = {"numpy", "cffi", "reptile_np"} | set(sys.stdlib_module_names)
EXTRAS = {"PIL", "tqdm", "matplotlib", "hypothesis", "distributed"}
FOR_TESTS = {"checks.strategies"}  # strategies offered to other people's tests: needs the extra `test`


def name(file):
    """The dotted name of a file inside the package."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts)


@cache
def imports(file, top_level_only=False):
    """The dotted names a file imports, and whether each import runs when the module is imported."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Lambda)) or is_type_checking(node)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if top_level_only and id(node) in lazy:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides the package it comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_type_checking(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"


def inside(dotted):
    """What of the package an import names: "meta.training.begin" for reptile_np.meta.training.begin."""
    return dotted.removeprefix("reptile_np.") if dotted.startswith("reptile_np.") else None


every_file = pytest.mark.parametrize("file", FILES, ids=name)


@every_file
def test_arrows_point_down_only(file):
    package = name(file).split(".")[0]
    for used in filter(None, map(inside, imports(file))):
        other = used.split(".")[0]
        if other.startswith("__version__"):
            continue
        assert other in MAY_USE[package] | EVERYWHERE | {package}, f"{package} uses {used}"


def package_of(dotted):
    """The package of a module; theory.checks is the public alias of a module of checks."""
    if dotted.startswith("nn.native"):
        return "nn.native"
    return "checks" if dotted == "theory.checks" else dotted.split(".")[0]


def picture():
    """Package → the packages it imports, in the order of PACKAGES."""
    arrows = {package: set() for package in PACKAGES}
    for file in FILES:
        package = package_of(name(file))
        for used in filter(None, map(inside, imports(file))):
            if package in arrows and package_of(used) in arrows:
                arrows[package].add(package_of(used))
    return {package: sorted(used - {package}, key=PACKAGES.index) for package, used in arrows.items()}


def test_the_picture_of_the_imports_has_no_circle_and_no_arrow_up():
    arrows = picture()
    for package in reversed(PACKAGES):
        print(f"{package:12} {'→ ' + ', '.join(arrows[package]) if arrows[package] else ''}")
        assert all(PACKAGES.index(used) < PACKAGES.index(package) for used in arrows[package]), package


@pytest.mark.parametrize("file", [file for file in FILES if name(file).startswith("nn.")], ids=name)
def test_of_the_algorithms_the_networks_know_the_inner_loop_and_only_c_knows_optimisers(file):
    """`Array`, `Linearization`, `Trajectory` and `RunsInnerLoops` are defined once, in meta.inner_loop."""
    allowed = {"inner_loop"} | ({"optimizers"} if name(file).startswith("nn.native") else set())
    used = [used.split(".") for used in filter(None, map(inside, imports(file)))]
    assert {parts[1] for parts in used if parts[0] == "meta"} <= allowed


@pytest.mark.parametrize("file", [f for f in FILES if name(f).split(".")[0] in ("meta", "nn")], ids=name)
def test_no_fast_path_is_chosen_by_the_name_of_an_attribute(file):
    """What a model can do is said by its type (`RunsInnerLoops`), where readers and mypy see it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"getattr", "setattr", "hasattr", "vars"}
    assert not attributes & {"__dict__", "__qualname__", "__module__"}


def test_only_the_benchmark_experiments_and_the_command_line_import_the_kernels():
    using = {package_of(name(file)) for file in FILES if any("nn.native" in used for used in imports(file))}
    assert using == {"nn.native", "bench", "experiments", "cli"}


def test_only_one_file_imports_the_extension():
    using = {name(file) for file in FILES if any("_kernels" in used for used in imports(file))}
    assert using <= {"nn.native.extension"}


@every_file
def test_importing_needs_only_numpy_cffi_and_the_standard_library(file):
    needs = imports(file, top_level_only=True)
    if name(file) not in FOR_TESTS:
        assert {used.split(".")[0] for used in needs} <= RUNTIME
        assert not [used for used in filter(None, map(inside, needs)) if used.startswith(tuple(FOR_TESTS))]


@every_file
def test_beyond_that_only_the_declared_extras_are_ever_imported(file):
    assert {used.split(".")[0] for used in imports(file)} <= RUNTIME | EXTRAS


@every_file
def test_a_file_is_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


@every_file
def test_a_module_says_what_it_is_for(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def test_no_two_modules_import_each_other():
    """Cycles inside a package: the order of a package's files is a reading order."""
    names = [*map(name, FILES)]
    graph = {
        name(file): {
            other
            for used in filter(None, map(inside, imports(file, top_level_only=True)))
            for other in names
            if (used == other or used.startswith(other + ".")) and other != name(file)
        }
        for file in FILES
    }
    while leaves := {module for module, used in graph.items() if not used & graph.keys()}:
        graph = {module: used for module, used in graph.items() if module not in leaves}
    assert not graph, f"a cycle among {sorted(graph)}"


@pytest.mark.parametrize("module", ["reptile_np", "reptile_np.nn.models", "reptile_np.meta.training"])
def test_importing_takes_less_than_half_a_second(module):
    """Processor time, NumPy included, and the least of five: other load on the machine is not ours."""
    program = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
    seconds = (
        float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
        for _ in range(5)
    )
    assert any(needed < 0.5 for needed in seconds)  # the least of five, without those after it


def test_every_module_with_public_names_lists_them():
    """So that an editor, ``import *`` and the API reference agree on what is public."""
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.ClassDef)
        public = [n.name for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
        assigned = [n for n in tree.body if isinstance(n, ast.Assign)]
        lists = [n.value for n in assigned if getattr(n.targets[0], "id", None) == "__all__"]
        listed = {word.value for value in lists for word in ast.walk(value) if isinstance(word, ast.Constant)}
        assert set(public) <= listed, name(file)
