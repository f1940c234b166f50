"""The expansions where `test_paper.py` does not go: many steps, edges, and how they are measured."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.theory.claims.expansion import measured_coefficients
from reptile_np.theory.claims.shared import example
from reptile_np.theory.expansions import (
    METHODS,
    distinct,
    fomaml_gradient,
    independent,
    reptile_gradient,
    stated,
    stated_sum,
)
from tests.theory.exact import combination
from tests.theory.planted import mutant_of


def test_five_steps_on_cubic_losses_with_distinct_minibatches():
    family = example(variables=1, tasks=1, batches=5)
    expansion = family.expansion(METHODS, 5)
    for i, method in enumerate(METHODS):
        assert (expansion[:, i] == combination(family, stated(method, 5))).all()


def test_five_steps_on_cubic_losses_with_independent_minibatches():
    family = replace(example(variables=2, tasks=1, batches=2), sampler=independent)
    expansion = family.expansion(METHODS, 5)
    for i, method in enumerate(METHODS):
        assert (expansion[:, i] == combination(family, stated(method, 5))).all()


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
def test_the_stated_table_is_that_of_the_later_versions(k):
    assert stated("MAML", k)[:2] == ((1,), (-2 * (k - 1),))
    assert stated("FOMAML", k)[:2] == ((1,), (-(k - 1),))
    assert stated("Reptile", k)[:2] == ((k,), (-k * (k - 1) / 2,))


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match="iMAML"):
        stated("iMAML", 2)


@pytest.mark.parametrize("method", [reptile_gradient, fomaml_gradient])
@pytest.mark.parametrize("factor", ["* alpha", "/ abs(alpha)", "* (alpha / abs(alpha))", "/ alpha**3"])
def test_at_one_step_a_displacement_that_is_not_divided_by_alpha_has_no_coefficients(method, factor):
    """α² g, α / |α| g, |α| g and g / α² in the place of g."""
    wrong = mutant_of(method, "/ alpha", factor)
    with pytest.raises(ArithmeticError, match="not a polynomial of degree 0"):
        measured_coefficients(example(), {"wrong": wrong}, 1)
    assert measured_coefficients(example(), {"right": method}, 1) == {"right": [1, 0]}


def test_weights_add():
    one, two, both = (np.concatenate(stated_sum(w)) for w in ([1, 0, 2], [3, -1, 0], [4, -1, 2]))
    assert (one + two == both).all()


def test_the_enumerations_are_complete():
    assert len(list(distinct("abcd", 3))) == 4 * 3 * 2
    assert set(distinct("ab", 2)) == {("a", "b"), ("b", "a")}
    assert len(list(independent("abc", 2))) == 9
    assert set(independent("ab", 2)) == set(itertools.product("ab", repeat=2))


def test_an_expectation_over_no_tuples_is_zero():
    family = example(batches=2)
    assert (family.mean(lambda *batches: family.phi, 3) == 0).all()


def test_a_direction_over_no_tuples_or_of_no_method_is_refused():
    family = example(batches=3)
    for measure in (lambda k: family.expected(METHODS, k, 1), lambda k: family.expansion(METHODS, k)):
        with pytest.raises(
            UsageError, match=r"^no task has 4 minibatches to draw; give every task at least 4$"
        ):
            measure(4)
    with pytest.raises(UsageError, match=r"^expected: no methods; give at least one, such as METHODS$"):
        family.expected({}, 2, 1)


def test_no_minibatch_has_no_curvature():
    with pytest.raises(UsageError, match=r"^curvature: no minibatches; give at least one task$"):
        replace(example(), tasks=[]).curvature()


@pytest.mark.parametrize("lengths", [[], [3, 1], [1, 3]])
def test_tasks_that_are_missing_or_too_short_are_named(lengths):
    family = example()
    short = replace(family, tasks=[family.tasks[0][:length] for length in lengths])
    said = ", ".join(map(str, lengths)) or "no tasks"
    with pytest.raises(UsageError, match=f"^minibatches per task: {said}; give every task at least 2$"):
        short.avg_grad_inner()


@pytest.mark.parametrize("order", [-1, 3, 1.5])
def test_an_order_whose_terms_are_not_known_is_refused(order):
    with pytest.raises(UsageError, match=rf"^order {order} of α: the terms are known for 0, 1 and 2$"):
        example().terms(order)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [0, 1.5, 2.0, None])
def test_an_inner_loop_without_a_whole_number_of_steps_has_no_coefficients(method, k):
    with pytest.raises(UsageError, match=rf"^stated: k is {k}; give a whole number of at least 1$"):
        stated(method, k)


def test_exact_and_float_expectations_agree():
    family = example()
    as_float = replace(
        family,
        phi=family.phi.astype(float),
        tasks=[[batch.astype(float) for batch in task] for task in family.tasks],
    )
    exact = family.expected(METHODS, 3, 1 / family.phi[0] / 8)
    assert np.allclose(as_float.expected(METHODS, 3, 0.125), exact.astype(float), rtol=1e-12)


def test_tasks_have_equal_weight_whatever_the_number_of_their_minibatches():
    family = example(batches=3)
    uneven = replace(family, tasks=[family.tasks[0], family.tasks[1][:2]])
    each = [replace(uneven, tasks=[task]).avg_grad_inner() for task in uneven.tasks]
    assert (uneven.avg_grad_inner() == sum(each) / 2).all()
