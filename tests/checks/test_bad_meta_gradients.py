"""What ``meta_gradient_expansion`` is given, if it has the wrong form, is refused by name."""

from collections import deque

import numpy as np
import pytest

from reptile_np.checks import CheckFailure, meta_gradient_expansion
from tests.checks.examples import PHI, right, right_hvp
from tests.checks.expansions import FAMILY
from tests.refusal import refusal


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (PHI[1:], "the meta-gradient has shape (2,); phi has (3,)"),
        (1.0, "the meta-gradient has shape ()"),
        (None, "the meta-gradient is None"),
        (np.nan * PHI, "the meta-gradient is not finite"),
    ],
)
def test_a_meta_gradient_of_the_wrong_form_is_refused(returned, message):
    tasks = [[0, 1]]
    assert message in refusal(
        meta_gradient_expansion, lambda *args: returned, right, right_hvp, PHI, tasks, 2
    )


@pytest.mark.parametrize(
    ("tasks", "k", "message"),
    [
        ([], 2, "tasks must be a non-empty list of tasks"),
        ([1, 2], 2, "tasks must be a non-empty list of tasks"),
        ([[0, 1]], 3, "k = 3"),
        ([[0, 1, 2], [0, 1]], 3, "k = 3, but a task has 2 minibatches; give at least k"),
        ([[0, 1]], 0, "k is 0; give a whole number of at least 1"),
        ([[0, 1]], 1.5, "k is 1.5"),
        ([[0]], 1, "AvgGradInner needs two"),
    ],
)
def test_tasks_and_steps_that_do_not_fit_are_refused(tasks, k, message):
    assert message in refusal(meta_gradient_expansion, lambda *args: PHI, right, right_hvp, PHI, tasks, k)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tolerance": -1}, "tolerance is -1; give a number greater than 0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"alpha": 0}, "alpha is 0; give a number that is not 0"),
        ({"alpha": "1e-4"}, "alpha is '1e-4'"),
        ({"alpha": True}, "alpha is True"),
        ({"alpha": np.complex128(1j)}, "alpha is np.complex128(1j)"),
        ({"expect": []}, "method [] is unknown; expect one of Reptile, FOMAML, MAML"),
        ({"sampler": "distinct"}, "sampler is 'distinct'; give a function"),
        ({"sampler": lambda task, k: []}, "the sampler draws no tuple of k = 2 minibatches from a task"),
        ({"alpha": 0.1}, "(it is not the inner learning rate)"),
        ({"meta_gradient": None}, "meta_gradient is None; give a function"),
        ({"hvp": None}, "hvp is None; give a function"),
    ],
)
def test_arguments_of_the_expansion_that_are_none_are_named(changed, says):
    given = {"meta_gradient": lambda phi, batches, alpha: phi, "loss_and_grad": right, "hvp": right_hvp}
    given |= {"phi": PHI, "tasks": [[None, None]], "k": 2}
    assert says in refusal(meta_gradient_expansion, **(given | changed))


def quadratic(phi, batch):
    """½ |φ - batch|² + Σ φ⁴."""
    return float((phi - batch) @ (phi - batch)) / 2 + float((phi**4).sum()), phi - batch + 4 * phi**3


def quadratic_hvp(phi, batch, v):
    return v + 12 * phi**2 * v


TASKS = [list(task) for task in np.random.default_rng(0).standard_normal((2, 3, 3))]


def fomaml_of(phi, batches, alpha):
    for batch in batches[:-1]:
        phi = phi - alpha * quadratic(phi, batch)[1]
    return quadratic(phi, batches[-1])[1]


def expansion_of(meta_gradient, tasks=TASKS, k=3, **options):
    return meta_gradient_expansion(meta_gradient, quadratic, quadratic_hvp, PHI, tasks, k, **options)


def test_a_meta_gradient_that_writes_into_phi_is_refused():
    def in_place(phi, batches, alpha):
        for batch in batches[:-1]:
            phi -= alpha * quadratic(phi, batch)[1]
        return quadratic(phi, batches[-1])[1]

    assert "the meta-gradient changes phi in place" in refusal(expansion_of, in_place)


def test_a_meta_gradient_that_returns_one_array_again_and_again_is_refused():
    out = np.empty(3)

    def same_array(phi, batches, alpha):
        out[:] = fomaml_of(phi, batches, alpha)
        return out

    assert "writes into the direction that it returned before" in refusal(expansion_of, same_array)


class Loader:
    """Minibatches as some libraries give them: a length and an iterator, no indices."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("kind", [tuple, deque, Loader, np.array])
def test_a_task_may_be_any_collection_that_has_a_length_and_an_order(kind):
    found = expansion_of(fomaml_of, [kind(task) for task in TASKS], np.int64(3))
    assert found == expansion_of(fomaml_of)
    assert (found.method, found.exact) == ("FOMAML", True)


def test_a_task_that_is_a_mapping_is_refused():
    assert "tasks must be a non-empty list of tasks" in refusal(expansion_of, fomaml_of, [{0: 1, 1: 2, 2: 3}])


def test_a_direction_that_is_divided_by_alpha_twice_is_named():
    def divided(phi, batches, alpha):
        return fomaml_of(phi, batches, alpha) / alpha

    assert "divide it by alpha once" in refusal(expansion_of, divided)


def test_the_report_of_a_first_order_off_the_line_of_avg_grad_inner_does_not_hold():
    """The query loss is that of all minibatches: its ratio is MAML's, up to 1 %."""

    def gradient(phi, batch):
        return FAMILY.model.loss_and_grad(phi, batch)[1]

    def of_one_query(phi, batches, alpha, query):
        phis = [phi]
        for batch in batches[:-1]:
            phis.append(phis[-1] - alpha * gradient(phis[-1], batch))
        u = gradient(phis[-1], query)
        for at, batch in list(zip(phis, batches[:-1], strict=False))[::-1]:
            u = u - alpha * FAMILY.model.hvp(at, batch, u)
        return u

    def of_all(phi, batches, alpha):
        return sum(of_one_query(phi, batches, alpha, query) for query in batches) / 3

    model = FAMILY.model
    with pytest.raises(CheckFailure, match="rad off AvgGradInner") as failure:
        meta_gradient_expansion(
            of_all, model.loss_and_grad, model.hvp, FAMILY.phi, FAMILY.tasks, 3, expect="MAML"
        )
    assert not failure.value.report.holds


def test_where_all_gradients_cancel_another_phi_is_asked_for():
    """With the loss ½ |φ - batch|² at the mean of all minibatches."""

    def loss_and_grad(phi, batch):
        return float((phi - batch) @ (phi - batch)) / 2, phi - batch

    def maml_of(phi, batches, alpha):
        at = phi
        for batch in batches[:-1]:
            at = at - alpha * (at - batch)
        return (at - batches[-1]) * (1 - alpha) ** 2

    phi = np.mean(TASKS, axis=(0, 1))
    said = refusal(
        meta_gradient_expansion, maml_of, loss_and_grad, lambda phi, batch, v: v, phi, TASKS, 3, expect="MAML"
    )
    assert said == "AvgGrad is zero at this phi: the minibatches' gradients cancel; give another phi"
