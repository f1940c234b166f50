"""What agrees with a method only to order α, or only on some tuples of minibatches, is not that method."""

import itertools
import operator
from dataclasses import replace

import numpy as np
import pytest

from reptile_np.checks import meta_gradient_expansion
from reptile_np.checks.functions import Functions
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import fomaml, maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.theory.expansions import distinct, each_batch_at_each_place, independent
from reptile_np.theory.networks import sine_waves
from tests.checks.expansions import FAMILY, exact_maml, expansion_of, hessians_at_the_start, suspicion
from tests.checks.test_expansion_of_quadratics import CENTRES, quadratics


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


def wrong_if(wrong):
    """MAML, but with the Hessians at φ_1 for the tuples of minibatches of which `wrong` is true."""
    return lambda alpha: lambda t: (hessians_at_the_start if wrong(t.batches) else exact_maml)(alpha)(t)


def assert_refused(direction, **options):
    assert "agrees with MAML only to order α" in suspicion(direction, expect="MAML", **options)
    found = expansion_of(direction, **options)
    assert (found.method, found.exact) == ("MAML", False)


@pytest.mark.parametrize("number", range(3))
def test_a_maml_that_is_wrong_in_one_of_three_tasks_is_told_so(number):
    family = sine_waves(tasks=3)
    task = family.tasks[number]
    assert_refused(wrong_if(lambda batches: any(batches[0] is b for b in task)), family=family)


@pytest.mark.parametrize("sampler", [distinct, independent])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("number", range(4))
def test_a_maml_that_is_wrong_with_one_minibatch_at_one_place_is_told_so(number, place, sampler):
    family = sine_waves(tasks=1, batches=4)
    batch = family.tasks[0][number]
    assert_refused(wrong_if(lambda batches: batches[place] is batch), family=family, sampler=sampler)


def test_a_maml_that_is_wrong_where_the_first_minibatch_is_the_query_is_told_so():
    queries = [task[0] for task in FAMILY.tasks]
    assert_refused(wrong_if(lambda batches: any(batches[-1] is b for b in queries)))


def test_the_tuples_that_are_compared_are_few_and_show_each_minibatch_at_each_place():
    for sampler, n, k in itertools.product((distinct, independent), (2, 3, 5, 6), (1, 2, 3, 5)):
        drawn = list(sampler(range(n), k))
        chosen = each_batch_at_each_place(drawn)
        assert {p for t in chosen for p in enumerate(t)} == {p for t in drawn for p in enumerate(t)}
        assert len(chosen) <= k * (n - 1) + 1


def test_an_error_in_a_task_of_small_losses_is_found_beside_a_task_of_large_ones():
    """The error is 1e-4 of the task's own directions, and 1e-8 of those of the other task."""
    tasks, loss_and_grad, hvp = quadratics(CENTRES, (1e-4, 1.0))

    def off(by):
        def meta_gradient(phi, batches, alpha):
            t = adapt(model, Sgd(alpha), phi, batches)
            small = batches[0][0] < 1
            return maml(model, alpha)(t) * (1 + by * (alpha > 0.1) * small)

        return meta_gradient_expansion(meta_gradient, loss_and_grad, hvp, np.array([1.0, -1.0]), tasks, 2)

    model = Functions(loss_and_grad, hvp)
    assert off(0).exact
    assert (off(1e-4).method, off(1e-4).exact) == ("MAML", False)


def test_a_task_that_is_solved_up_to_rounding_is_not_held_against_the_other():
    """The two programs compute its gradients, which are rounding errors, in different ways."""
    phi = np.array([0.1 + 0.2, 1.1])
    tasks, loss_and_grad, hvp = quadratics([[[0.3, 1.1]] * 2, CENTRES[1]], (3.0, 1.0))

    def grad(phi, batch):
        return batch[0] * phi - batch[0] * batch[1]

    def meta_gradient(phi, batches, alpha):
        after = phi - alpha * grad(phi, batches[0])
        last = grad(after, batches[1])
        return last - alpha * hvp(phi, batches[0], last)

    found = meta_gradient_expansion(meta_gradient, loss_and_grad, hvp, phi, tasks, 2)
    assert (found.method, found.exact) == ("MAML", True)


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
