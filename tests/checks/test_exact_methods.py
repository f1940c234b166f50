"""What agrees with a method only to order α, or only on some tuples of minibatches, is not that method."""

import operator
from dataclasses import replace

import pytest

from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import fomaml
from reptile_np.meta.optimizers import Sgd
from tests.checks.expansions import FAMILY, exact_maml, expansion_of, hessians_at_the_start, suspicion


def reversed_factors(alpha):
    def direction(t):
        u = t.grads[-1]
        for phi, batch in list(zip(t.phis, t.batches, strict=False))[:-1]:
            u = u - alpha * FAMILY.model.hvp(phi, batch, u)
        return u

    return direction


def sum_for_product(alpha):
    def direction(t):
        g = t.grads[-1]
        places = list(zip(t.phis, t.batches, strict=False))[:-1]
        return g - alpha * sum(FAMILY.model.hvp(phi, batch, g) for phi, batch in places)

    return direction


def right_for_one_order_of_the_minibatches(alpha):
    def direction(t):
        first = any(all(map(operator.is_, t.batches, task)) for task in FAMILY.tasks)
        return (exact_maml if first else reversed_factors)(alpha)(t)

    return direction


@pytest.mark.parametrize(
    "direction",
    [reversed_factors, sum_for_product, hessians_at_the_start, right_for_one_order_of_the_minibatches],
)
def test_a_maml_that_is_true_to_order_alpha_only_is_told_so(direction):
    assert "agrees with MAML only to order α" in suspicion(direction, expect="MAML")
    found = expansion_of(direction)
    assert (found.method, found.exact) == ("MAML", False)


@pytest.mark.parametrize(("share", "exact"), [(1e-2, False), (1e-4, False), (1e-6, True), (0.0, True)])
def test_directions_that_differ_by_more_than_a_millionth_are_not_the_same(share, exact):
    """At the α of the comparison the two that are mixed differ by 1 to 3 %."""

    def direction(alpha):
        one, other = exact_maml(alpha), hessians_at_the_start(alpha)
        return lambda t: (1 - share) * one(t) + share * other(t)

    found = expansion_of(direction)
    assert (found.method, found.exact) == ("MAML", exact)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("name", ["FOMAML", "MAML"])
def test_a_scaled_alpha_is_not_taken_for_another_method(name, factor):
    """With half or twice the α of the inner loop, one method has another one's ratio."""

    def scaled(alpha):
        if name == "MAML":
            return lambda t: exact_maml(factor * alpha)(replace(t, optimizer=None))
        return lambda t: (
            fomaml(adapt(FAMILY.model, Sgd(factor * alpha), t.phis[0], t.batches)) / (factor * alpha)
        )

    report = suspicion(scaled, expect=name)
    assert "this is" not in report
    assert "too few" in report or "is alpha another one" in report
