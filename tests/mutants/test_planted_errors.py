"""Every planted error in samplers, loops, streams and public checks is refuted by a named statement."""

import inspect
from collections import Counter

import pytest

from tests.mutants import check_statements, loop_statements, task_statements
from tests.mutants.check_table import MUTANTS as OF_CHECKS
from tests.mutants.planting import assert_refuted, plant
from tests.mutants.table import MUTANTS as OF_TASKS_AND_LOOPS

MUTANTS = OF_TASKS_AND_LOOPS + OF_CHECKS

STATEMENTS = [
    function
    for module in (task_statements, loop_statements, check_statements)
    for _, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and "_" in function.__name__
    and not inspect.signature(function).parameters
]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.__name__)
def test_every_statement_holds_of_the_real_code(statement):
    statement()


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_is_refuted_by_its_statement(monkeypatch, mutant):
    plant(monkeypatch, mutant)
    assert_refuted(mutant.statement)


def test_every_statement_refutes_a_mutant_and_no_mutant_is_listed_twice():
    assert {mutant.statement for mutant in MUTANTS} == set(STATEMENTS)
    assert max(Counter(map(str, MUTANTS)).values()) == 1
    assert len(MUTANTS) >= 120
