"""The losses are their formulas, the adjoints their derivatives, and the reduction is always said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError, reduce
from tests.oracles import assert_close, hessian, tangent
from tests.strategies import rngs

reductions = pytest.mark.parametrize("reduction", ["sum", "mean"])
kinds = pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, SquaredError])


def outputs_and_targets(kind, rng, b, o):
    if kind is SoftmaxCrossEntropy:
        return 3 * rng.normal(size=(b, o)), rng.integers(0, o, b)
    shape = [(b, o), (b, o, 2), (b, 3, 2, o)][rng.integers(3)]  # vectors or images
    return 3 * rng.normal(size=shape), rng.normal(size=shape)


def value(loss, z, y):
    return reduce(loss, loss.per_example(z, y))


shapes = {"rng": rngs, "b": st.integers(1, 6), "o": st.integers(1, 6)}


@kinds
@reductions
@given(**shapes)
def test_the_adjoint_is_the_derivative_of_the_reduced_loss(kind, reduction, rng, b, o):
    loss = kind(reduction)
    z, y = outputs_and_targets(kind, rng, b, o)
    z_dot, adjoint = rng.normal(size=z.shape), loss.adjoint(z, y)
    scale = np.abs(adjoint * z_dot).sum() + 1
    assert abs((adjoint * z_dot).sum() - tangent(lambda z: value(loss, z, y), z, z_dot)) <= 1e-13 * scale


@kinds
@reductions
@given(**shapes)
def test_adjoint_dot_is_the_derivative_of_the_adjoint(kind, reduction, rng, b, o):
    loss = kind(reduction)
    z, y = outputs_and_targets(kind, rng, b, o)
    z_dot = rng.normal(size=z.shape)
    expected = tangent(lambda z: loss.adjoint(z, y), z, z_dot)
    np.testing.assert_allclose(loss.adjoint_dot(z, z_dot, y), expected, rtol=0, atol=1e-13)


@kinds
@given(**shapes)
def test_the_mean_is_the_sum_divided_by_the_number_of_examples(kind, rng, b, o):
    z, y = outputs_and_targets(kind, rng, b, o)
    total, mean = kind("sum"), kind("mean")
    assert value(mean, z, y) == value(total, z, y) / b
    assert_close(mean.adjoint(z, y), total.adjoint(z, y) / b)
    assert_close(mean.adjoint_dot(z, z, y), total.adjoint_dot(z, z, y) / b, 1e-11)


def test_the_cross_entropy_of_equal_logits_is_log_of_the_ways():
    loss = SoftmaxCrossEntropy("sum")
    np.testing.assert_allclose(loss.per_example(np.full((2, 5), 7.0), np.array([0, 4])), np.log(5))


def test_the_cross_entropy_of_an_example_does_not_depend_on_another_s_huge_logits():
    loss, z, y = SoftmaxCrossEntropy("sum"), np.array([[0.0, 1.0], [2000.0, 2001.0]]), np.array([0, 0])
    np.testing.assert_array_equal(loss.per_example(z, y), loss.per_example(z[:1], y[:1]).repeat(2))


def test_the_squared_error_is_averaged_over_the_outputs():
    z, y = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(SquaredError("sum").per_example(z, y), [2.5, 4.5])


@given(rng=rngs)
def test_the_softmax_adjoint_sums_to_zero_over_the_ways(rng):
    z, y = outputs_and_targets(SoftmaxCrossEntropy, rng, 4, 5)
    np.testing.assert_allclose(SoftmaxCrossEntropy("sum").adjoint(z, y).sum(1), 0, atol=1e-15)


def test_the_softmax_hessian_is_diag_p_minus_p_p():
    loss, z, y = SoftmaxCrossEntropy("sum"), np.array([[0.3, -1.0, 2.0]]), np.array([1])
    p = np.exp(z[0]) / np.exp(z[0]).sum()
    dense = hessian(lambda flat: loss.adjoint(flat[None], y)[0], z[0])
    np.testing.assert_allclose(dense, np.diag(p) - np.outer(p, p), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_overflow_nothing(dtype):
    loss, y = SoftmaxCrossEntropy("sum"), np.array([0, 1])
    z = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype)
    np.testing.assert_array_equal(loss.per_example(z, y), np.array([0, 2e4], dtype))
    np.testing.assert_array_equal(loss.adjoint(z, y), [[0, 0, 0], [1, -1, 0]])


@kinds
@reductions
def test_float32_stays_float32_and_nothing_is_written(kind, reduction):
    loss = kind(reduction)
    z, y = outputs_and_targets(kind, np.random.default_rng(0), 3, 4)
    z, y = z.astype(np.float32), y if kind is SoftmaxCrossEntropy else y.astype(np.float32)
    z.setflags(write=False)
    y.setflags(write=False)
    arrays = loss.per_example(z, y), loss.adjoint(z, y), loss.adjoint_dot(z, z, y)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@kinds
@pytest.mark.parametrize("reduction", ["avg", "none", "Sum", None, True])
def test_a_reduction_that_there_is_not_is_refused(kind, reduction):
    with pytest.raises(UsageError, match=rf'^{kind.__name__}: reduction is .*; give "sum" or "mean"$'):
        kind(reduction)


def test_the_squared_error_is_the_mean_over_all_outputs_of_an_example():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 3, 4, 5, 2))
    expected = ((z - y) ** 2).mean(axis=(1, 2, 3))
    for reduction, together in (("sum", np.sum), ("mean", np.mean)):
        np.testing.assert_allclose(SquaredError(reduction).per_example(z, y), expected)
        np.testing.assert_allclose(value(SquaredError(reduction), z, y), together(expected))
