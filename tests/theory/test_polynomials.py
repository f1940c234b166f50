"""Polynomial losses: every derivative agrees with the values alone, exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.checks.strategies import rational_vectors, task_families
from reptile_np.errors import UsageError
from reptile_np.theory.polynomials import Polynomials, degree_in_alpha, random_tasks
from reptile_np.theory.rational import exact_gradient, rationals

one_task = st.one_of(
    [task_families(variables=n, degree=d, tasks=1, batches=1) for n in (1, 2, 3) for d in (1, 2, 3, 4)]
)


@given(one_task, st.data())
def test_each_derivative_is_the_exact_gradient_of_the_one_below(family, data):
    model, phi, batch = family.model, family.phi, family.tasks[0][0]
    u, v = (data.draw(rational_vectors(model.variables)) for _ in "uv")
    loss, grad = model.loss_and_grad(phi, batch)
    powers = [np.prod([x**e for x, e in zip(phi, power, strict=True)]) for power in model.exponents]
    assert loss == sum(c * p for c, p in zip(batch, powers, strict=True))
    value = exact_gradient(lambda p: model.loss_and_grad(p, batch)[0], phi, model.degree)
    assert (grad == value).all()
    hessian = exact_gradient(lambda p: model.loss_and_grad(p, batch)[1], phi, model.degree)
    assert (model.hvp(phi, batch, v) == hessian @ v).all()
    third = exact_gradient(lambda p: model.hvp(p, batch, v), phi, model.degree)
    assert (model.third(phi, batch, u, v) == third @ u).all()


@given(task_families(tasks=1, batches=2))
def test_the_mean_of_two_batches_is_the_batch_of_the_mean_loss(family):
    model, phi, (one, two) = family.model, family.phi, family.tasks[0]
    grads = model.loss_and_grad(phi, one)[1] + model.loss_and_grad(phi, two)[1]
    assert (model.loss_and_grad(phi, (one + two) / 2)[1] == grads / 2).all()


def test_complex_numbers_work_too():
    model = Polynomials(2, 3)
    batch = np.arange(1.0, model.terms + 1)
    phi, v = np.array([0.5, -1.5]), np.array([2.0, 1.0])
    loss, _ = model.loss_and_grad(phi + 1e-20j * v, batch)
    _, grad = model.loss_and_grad(phi, batch)
    assert loss.imag / 1e-20 == pytest.approx(grad @ v, rel=1e-14)


@pytest.mark.parametrize(("n", "m"), [(3, 6), (1, 6), (2, 7), (2, 5)])
def test_a_phi_or_a_batch_of_another_length_is_refused(n, m):
    model, phi, batch = Polynomials(2, 2), rationals([1] * n), rationals([1] * m)
    for call in (
        lambda: model.loss_and_grad(phi, batch),
        lambda: model.hvp(phi, batch, phi),
        lambda: model.third(phi, batch, phi, phi),
    ):
        with pytest.raises(UsageError, match=rf"phi has shape \({n},\), the batch \({m},\); give \(2,\) and"):
            call()


@pytest.mark.parametrize("arguments", [(0, 2), (2, -1), (2, 1.5), (None, 1)])
def test_polynomials_without_variables_or_of_no_degree_are_refused(arguments):
    with pytest.raises(UsageError, match=r"^Polynomials: (variables|degree) is .*; give a whole number"):
        Polynomials(*arguments)


def test_random_tasks_are_rational_and_differ():
    tasks = random_tasks(np.random.default_rng(0), Polynomials(2, 3), tasks=2, batches=3)
    assert [len(task) for task in tasks] == [3, 3]
    flat = [tuple(rationals(batch)) for task in tasks for batch in task]
    assert len(set(flat)) == 6


@pytest.mark.parametrize(
    ("loss_degree", "k", "degree"), [(2, 1, 0), (2, 3, 4), (3, 2, 3), (3, 3, 9), (3, 5, 45)]
)
def test_the_degree_in_alpha_of_maml(loss_degree, k, degree):
    assert degree_in_alpha(loss_degree, k) == degree
