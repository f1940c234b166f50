"""Errors planted in the package: the real source of a function with one piece of text replaced."""

import inspect
import sys
import textwrap


def mutant_of(function, old, new):
    """The function with the first `old` in its body replaced by `new`."""
    source = textwrap.dedent(inspect.getsource(function))
    body = source.index('"""', source.index('"""') + 3)  # a docstring may say the same things
    assert old in source[body:], (
        f"{function.__qualname__} no longer contains {old!r}: renew the planted error"
    )
    mutated = source[:body] + source[body:].replace(old, new, 1)
    assert mutated != source
    namespace = dict(vars(sys.modules[function.__module__]))
    exec(compile(mutated, f"<mutant of {function.__qualname__}>", "exec"), namespace)
    return namespace[function.__name__]


def plant(monkeypatch, function, old, new):
    """Put the mutant in the function's place, in its class or in every module that has imported it."""
    mutant = mutant_of(function, old, new)
    owner, _, name = function.__qualname__.rpartition(".")
    if owner:
        monkeypatch.setattr(getattr(sys.modules[function.__module__], owner), name, mutant)
        return
    for module in [module for path, module in sys.modules.items() if path.startswith("reptile_np")]:
        for name in [name for name, value in vars(module).items() if value is function]:
            monkeypatch.setattr(module, name, mutant)
