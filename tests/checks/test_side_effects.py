"""A function that changes its arguments or earlier results, or answers differently each time, is refused."""

import numpy as np
import pytest

from reptile_np.checks import (
    check_grad,
    check_hvp,
    check_taylor_order,
    meta_gradient_expansion,
)
from reptile_np.errors import UsageError
from tests.checks.examples import PHI, right, right_hvp
from tests.refusal import refusal


@pytest.mark.parametrize("name", ["phi", "v"])
def test_a_function_that_writes_on_its_arguments_is_refused_and_changes_nothing(name):
    """`adapt` does not copy φ: a loop would continue with the changed values."""

    def careless(phi, batch):
        loss, grad = right(phi, batch)
        phi[:] = 0
        return loss, grad

    def careless_hvp(phi, batch, v):
        product = right_hvp(phi, batch, v)
        {"phi": phi, "v": v}[name][:] = 0
        return product

    phi = PHI.copy()
    with pytest.raises(UsageError, match=rf"^hvp changes {name} in place"):
        check_hvp(right, careless_hvp, phi, None)
    with pytest.raises(UsageError, match=r"^loss_and_grad changes phi in place, .*: copy phi in"):
        check_grad(careless, phi, None)
    assert (phi == PHI).all()


@pytest.mark.parametrize("check", [check_grad, check_taylor_order])
def test_a_gradient_that_is_always_the_same_memory_is_refused(check):
    """`adapt` keeps the gradients of all steps: they would all become the last one."""
    memory = np.empty_like(PHI)

    def careless(phi, batch):
        loss, memory[:] = right(phi, batch)
        return loss, memory

    with pytest.raises(
        UsageError, match=r"^loss_and_grad writes into the gradient that loss_and_grad returned before"
    ):
        check(careless, PHI, None)


def test_a_hessian_product_that_overwrites_the_gradient_is_named():
    returned = []

    def remembered(phi, batch):
        loss, grad = right(phi, batch)
        returned.append(grad)
        return loss, grad

    def careless(phi, batch, v):
        returned[-1][:] = right_hvp(phi, batch, v)
        return returned[-1].copy()

    with pytest.raises(UsageError, match=r"^hvp writes into the gradient that loss_and_grad returned before"):
        check_hvp(remembered, careless, PHI, None)


def test_a_constant_gradient_may_be_the_same_array_at_each_call():
    slope = np.arange(1.0, 4.0)
    assert check_grad(lambda phi, batch: (float(slope @ phi), slope), np.ones(3), None).holds


def test_functions_that_do_not_give_the_same_twice_are_refused():
    rng = np.random.default_rng(0)

    def dropout(phi, batch):
        loss, grad = right(phi, batch)
        return loss * rng.random(), grad

    def change_the_batch(phi, batch):
        batch *= 1.01
        return float((batch * phi**2).sum()), 2 * batch * phi

    def random_product(phi, batch, v):
        return right_hvp(phi, batch, v) + 0.1 * rng.standard_normal(len(phi))

    assert "the loss is " in refusal(check_grad, dropout, PHI, None)
    assert "for the same phi and batch: is there dropout" in refusal(check_taylor_order, dropout, PHI, None)
    assert "change of the batch in place" in refusal(check_grad, change_the_batch, PHI, np.ones(3))
    assert "the Hessian product is" in refusal(check_hvp, right, random_product, PHI, None)
    tasks = [[1.0, 2.0]]
    direction = (lambda phi, batches, alpha: right(phi, None)[1] * rng.random(),)
    for arguments in ((dropout, right_hvp), (right, random_product)):
        said = refusal(meta_gradient_expansion, *direction, *arguments, PHI, tasks, 2)
        assert "for the same phi and batch: is there dropout" in said
    said = refusal(meta_gradient_expansion, *direction, right, right_hvp, PHI, tasks, 2)
    assert said.startswith("the meta-gradient is ")
    assert "for the same phi, batches and alpha: is there dropout" in said


def test_a_gradient_that_adds_up_over_the_calls_is_told_of_zero_grad():
    total = np.zeros_like(PHI)

    def no_zero_grad(phi, batch):
        nonlocal total
        loss, grad = right(phi, batch)
        total = total + grad
        return loss, total

    assert "gradients that add up over the calls (no zero_grad)" in refusal(
        check_grad, no_zero_grad, PHI, None
    )


@pytest.mark.parametrize("off", [1e-3, 1e-7, 1e-10])
def test_two_numbers_that_differ_are_printed_with_the_digits_that_differ(off):
    calls = []

    def drifting(phi, batch):
        loss, grad = right(phi, batch)
        calls.append(phi)
        return loss, grad * (1 + off * len(calls))

    said = refusal(check_grad, drifting, PHI, None)
    first, then = said.removeprefix("the gradient is ").split(", for")[0].split(", then ")
    assert first != then
    assert abs(float(then) / float(first) - 1 - off) <= off
