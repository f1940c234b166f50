"""The claims of ``reptile-np verify``, each function of a section called once for all tests."""

import inspect
from functools import cache, partial

import pytest

from reptile_np.theory import claims
from reptile_np.theory.claims import algorithm, breakdown, expansion, manifold, network


@cache
def rows(function):
    return function()


@cache
def verified():
    """What `verify` returns, from the rows of the functions that it calls."""
    with pytest.MonkeyPatch.context() as patch:
        for section in (algorithm, breakdown, expansion, manifold, network):
            for name, function in inspect.getmembers(section, inspect.isfunction):
                whole = function.__module__ == section.__name__ and not inspect.signature(function).parameters
                if whole and not name.startswith("_"):
                    patch.setattr(section, name, partial(rows, function))
        return claims.verify()
