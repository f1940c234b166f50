"""What a check cannot use is refused in one line that says what it is and what is needed."""

import math

import numpy as np
import pytest

from reptile_np.checks import (
    CheckFailure,
    check_adjoint,
    check_grad,
    check_hvp,
    check_taylor_order,
    meta_gradient_expansion,
)
from tests.checks.examples import PHI, right, right_hvp
from tests.refusal import refusal


class Tensor:
    """Like a tensor of another library: it has a shape and a dtype, and is not an array."""

    shape, dtype, ndim = (3,), np.float64, 1


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        ([1.0, 2.0], "phi is a list"),
        ({"w": PHI}, "phi is a dict"),
        (Tensor(), "phi is a Tensor"),
        (None, "phi is a NoneType"),
        (PHI.astype(np.float32), "phi is float32"),
        (PHI[:, None], "(3, 1)"),
        (PHI[:0], "n ≥ 1"),
        (np.array([1.0, np.nan]), "phi[1] is not finite"),
    ],
)
def test_a_phi_that_is_not_a_float64_vector_is_refused(phi, message):
    assert message in refusal(check_grad, right, phi, None)
    assert message in refusal(check_hvp, right, right_hvp, phi, None)
    assert message in refusal(check_taylor_order, right, phi, None)
    tasks = [[0, 1]]
    assert message in refusal(meta_gradient_expansion, lambda *args: PHI, right, right_hvp, phi, tasks, 2)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ((np.ones(5), PHI), "the loss is a ndarray of shape (5,); it must be one number"),
        ((np.ones(1), PHI), "the loss is a ndarray of shape (1,); it must be one number"),
        ((None, PHI), "the loss is None"),
        (("low", PHI), "the loss is a str"),
        ((1j, PHI), "the loss is a complex"),
        (PHI, "loss_and_grad returned a ndarray of shape (3,)"),
        (1.0, "loss_and_grad returned a float; it must return two values"),
        (None, "loss_and_grad returned None"),
        ((1.0, PHI, 2), "loss_and_grad returned a tuple of 3"),
        ((1.0, None), "the gradient is None"),
        ((1.0, 2.0), "the gradient has shape (); phi has (3,)"),
        ((1.0, PHI[1:]), "the gradient has shape (2,); phi has (3,)"),
        ((1.0, PHI[:, None]), "the gradient has shape (3, 1)"),
        ((1.0, {"w": PHI}), "the gradient is of type dict"),
        ((1.0, 1j * PHI), "dtype complex128"),
        ((1.0, PHI.astype(object)), "the gradient is of type ndarray and dtype object"),
    ],
)
def test_a_loss_or_gradient_of_the_wrong_form_is_refused(returned, message):
    assert message in refusal(check_grad, lambda phi, batch: returned, PHI, None)
    assert message in refusal(check_hvp, lambda phi, batch: returned, right_hvp, PHI, None)
    assert message in refusal(check_taylor_order, lambda phi, batch: returned, PHI, None)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (PHI[1:], "the Hessian product has shape (2,); phi has (3,)"),
        (np.eye(3), "the Hessian product has shape (3, 3)"),
        (2.0, "the Hessian product has shape ()"),
        (None, "the Hessian product is None"),
        ([PHI], "the Hessian product has shape (1, 3)"),
    ],
)
def test_a_hessian_product_of_the_wrong_form_is_refused(returned, message):
    assert message in refusal(check_hvp, right, lambda phi, batch, v: returned, PHI, None)
    assert message in refusal(check_taylor_order, right, PHI, None, hvp=lambda phi, batch, v: returned)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"w": (2, 2)}, "shapes add up to 4 entries, phi has 3"),
        ({"w": (2,)}, "shapes add up to 2 entries, phi has 3"),
        ({"w": 3}, "shapes['w'] is 3; give a tuple"),
        ([("w", (3,))], "shapes is a list"),
    ],
)
def test_shapes_that_do_not_describe_phi_are_refused(shapes, message):
    assert message in refusal(check_grad, right, PHI, None, shapes=shapes)
    assert message in refusal(check_hvp, right, right_hvp, PHI, None, shapes=shapes)


def test_a_piece_without_entries_is_skipped():
    assert check_grad(right, PHI, None, shapes={"w": (3,), "none": (0, 4)}).holds


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"tolerance": 0}, "tolerance is 0;"),
        ({"tolerance": -1.0}, "tolerance is -1.0;"),
        ({"tolerance": math.nan}, "tolerance is nan;"),
        ({"tolerance": math.inf}, "tolerance is inf;"),
        ({"tolerance": "a"}, "tolerance is 'a';"),
        ({"directions": 2.5}, "directions is 2.5;"),
        ({"directions": True}, "directions is True;"),
        ({"directions": None}, "directions is None;"),
        ({"seed": -1}, "seed is -1;"),
        ({"seed": "x"}, "seed is 'x';"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    assert message in refusal(check_grad, right, PHI, None, **option)
    assert message in refusal(check_hvp, right, right_hvp, PHI, None, **option)
    assert message in refusal(check_taylor_order, right, PHI, None, **option)
    same = np.copy
    assert message in refusal(check_adjoint, same, same, PHI, **option)


def test_no_directions_are_refused():
    for check in (check_grad, check_taylor_order):
        assert "directions is 0" in refusal(check, right, PHI, None, directions=0)
    assert "directions is 0" in refusal(check_adjoint, np.copy, np.copy, PHI, directions=0)


def test_two_calls_may_differ_by_rounding_and_by_no_more():
    def jittery(by):
        rng = np.random.default_rng(0)
        return lambda phi, batch: (
            right(phi, batch)[0] * (1 + by * rng.standard_normal()),
            right(phi, batch)[1],
        )

    assert check_grad(jittery(1e-14), PHI, None, tolerance=1e-4).holds
    assert "is there dropout" in refusal(check_grad, jittery(1e-9), PHI, None)


def test_a_forward_map_that_is_not_finite_is_named():
    assert "the result of forward is not finite" in refusal(check_adjoint, lambda x: np.nan * x, np.copy, PHI)


class GradientKept:
    """Like a tensor of PyTorch that is part of a graph: NumPy cannot read it."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def test_results_that_numpy_cannot_read_are_named():
    tensor = GradientKept()
    assert "the gradient is a GradientKept that NumPy cannot read (PyTorch: .detach()" in refusal(
        check_grad, lambda *_: (0.0, tensor), PHI, None
    )
    assert "forward is a GradientKept" in refusal(check_adjoint, lambda x: tensor, np.copy, PHI)
    assert "adjoint is a list" in refusal(check_adjoint, np.copy, lambda x: [[1.0], [1.0, 2.0]], PHI)


@pytest.mark.parametrize("hvp", [np.eye(3), 5])
def test_a_hessian_that_is_no_function_is_named(hvp):
    assert "hvp is" in refusal(check_taylor_order, right, PHI, None, hvp=hvp)


def test_an_adjoint_that_returns_no_array_is_refused():
    assert "the result of forward is a NoneType" in refusal(check_adjoint, lambda x: None, np.copy, PHI)
    assert "the result of adjoint is a NoneType" in refusal(check_adjoint, np.copy, lambda x: None, PHI)
    assert "x is a str" in refusal(check_adjoint, np.copy, np.copy, "x")


def test_an_error_inside_the_users_function_is_the_users():
    def broken(phi, batch):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        check_grad(broken, PHI, None)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_loss_or_gradient_that_is_not_finite_is_named_without_warnings(bad):
    def loss(phi, batch):
        return bad, right(phi, batch)[1]

    def loss_near_phi(phi, batch):
        return (right(phi, batch)[0] if (phi == PHI).all() else bad), right(phi, batch)[1]

    def gradient(phi, batch):
        return right(phi, batch)[0], bad * np.ones(3)

    def product(phi, batch, v):
        return bad * np.ones(3)

    for wrong in (loss, loss_near_phi):
        with pytest.raises(
            CheckFailure, match="the slope of the loss is not finite: a loss or a gradient at φ"
        ):
            check_grad(wrong, PHI, None)
    for wrong in (loss, loss_near_phi, gradient):
        with pytest.raises(CheckFailure, match="a value at φ, or close to it, is not finite"):
            check_taylor_order(wrong, PHI, None)
    with pytest.raises(CheckFailure, match="the gradient is not finite"):
        check_grad(gradient, PHI, None)
    with pytest.raises(CheckFailure, match="the slope of the gradient is not finite"):
        check_hvp(gradient, right_hvp, PHI, None)

    def product_of_the_last_minibatch(phi, batch, v):
        return product(phi, batch, v) if batch == 2.0 else right_hvp(phi, batch, v)

    for arguments in ((gradient, right_hvp), (right, product), (right, product_of_the_last_minibatch)):
        said = refusal(meta_gradient_expansion, lambda *_: PHI, *arguments, PHI, [[1.0, 2.0]], 2)
        assert "a gradient or a Hessian product is not finite at phi" in said


def test_a_missing_product_a_ragged_gradient_and_a_complex_loss_are_named():
    assert "hvp is None; give a function" in refusal(check_hvp, right, None, PHI, None)
    assert "loss_and_grad is None" in refusal(check_grad, None, PHI, None)
    ragged = refusal(check_grad, lambda phi, batch: (0.0, [[1.0], [1.0, 2.0], 3.0]), PHI, None)
    assert "the gradient is of type list" in ragged
    assert "one real number" in refusal(check_grad, lambda phi, batch: (1 + 2j, phi), PHI, None)


def test_a_map_or_an_adjoint_that_is_no_function_is_refused():
    assert refusal(check_adjoint, None, lambda y: y, np.zeros(3)).startswith("forward is ")
    assert refusal(check_adjoint, lambda x: x, 3, np.zeros(3)).startswith("adjoint is ")


def test_a_complex_result_of_a_map_is_refused_with_its_dtype():
    says = "the result of forward is a ndarray of complex128; it must be an array of real numbers"
    assert refusal(check_adjoint, lambda x: 1j * x, lambda y: y, np.zeros(3)) == says
