"""A mutant of a module: its source with one piece of text replaced, in the module's place during a test."""

import ast
import inspect
import sys
import types
from dataclasses import dataclass
from importlib import import_module

import pytest

PLACES = ("reptile_np", "tests.")
"""Modules whose names may stand for objects of a mutated one."""

BUILT_FROM = {
    "reptile_np.experiments.presets_omniglot": "reptile_np.experiments.presets",
    "reptile_np.meta.evaluation": "reptile_np.experiments.scores",
}
"""Module ↦ the module whose objects are built from the first one at import: run again.

They are `PRESETS` and `ClassificationScoring.score`.
"""


@dataclass(frozen=True)
class Mutant:
    """`old` is replaced by `new` (its first occurrence) in `module`; `statement` must then fail."""

    module: str
    old: str
    new: str
    statement: object

    def __str__(self):
        return f"{self.module.removeprefix('reptile_np.')}: {self.old} => {self.new}"


def mutants(module, statement, *pairs):
    """A mutant of a module of the package for each (old, new), all refuted by one statement."""
    return [Mutant(f"reptile_np.{module}", old, new, statement) for old, new in pairs]


def mutated(module, old, new):
    """The mutated module, freshly executed.

    Fails if the text is no longer there, or if only comments and docstrings would change.
    """
    source = inspect.getsource(module)
    assert old in source, f"{module.__name__} no longer contains {old!r}: renew the mutant"
    changed = source.replace(old, new, 1)
    assert _code(source) != _code(changed), f"{old!r} occurs first in words, not in code: renew the mutant"
    return _executed(module, changed)


def _executed(module, source):
    """A fresh module of that source, with the name of the given one."""
    copy = types.ModuleType(module.__name__)
    copy.__file__ = module.__file__
    original = sys.modules[module.__name__]
    sys.modules[module.__name__] = copy  # dataclasses look their module up
    try:
        exec(compile(source, f"<mutant of {module.__name__}>", "exec"), vars(copy))
    finally:
        sys.modules[module.__name__] = original
    return copy


def plant(monkeypatch, mutant):
    """Put the mutant in the place of its module: wherever a name is bound to an object of the real one."""
    module = import_module(mutant.module)
    _put_in_place(monkeypatch, module, mutated(module, mutant.old, mutant.new))
    if mutant.module in BUILT_FROM:
        second = import_module(BUILT_FROM[mutant.module])
        _put_in_place(monkeypatch, second, _executed(second, inspect.getsource(second)))


def _put_in_place(monkeypatch, module, copy):
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__") and name in vars(copy)
    }
    for place in [m for name, m in sys.modules.items() if name.startswith(PLACES) and m is not None]:
        for name, value in list(vars(place).items()):
            if name in own and value is own[name] and value is not vars(copy)[name]:
                monkeypatch.setattr(place, name, vars(copy)[name])


MISTAKES = (NameError, TypeError, AttributeError, ImportError)
"""What is raised by a mutant that does not run at all, and so plants nothing."""


def assert_refuted(statement):
    """Fail unless the statement fails, and for a reason that an error in running the mutant cannot be."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("CI", raising=False)  # with it pytest compares arrays in full: 36 s for one mutant
        with pytest.raises((Exception, pytest.fail.Exception)) as refutation:
            statement()
    print(f"{type(refutation.value).__name__}: {refutation.value}")
    assert not isinstance(refutation.value, MISTAKES), "the mutant does not run: renew it"


def _code(source):
    """The syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
            ]
    return ast.dump(tree)
