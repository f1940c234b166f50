"""The examples in the docstrings run and print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["checks", "polynomials"])
def test_the_examples_of_the_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(f"reptile_np.theory.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
