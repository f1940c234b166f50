"""What a check can measure: small pieces, kinks, float32, losses that are not finite a step away."""

import numpy as np
import pytest

from reptile_np.checks import CheckFailure, check_grad, check_hvp, check_taylor_order
from reptile_np.nn.layers import Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.parameter_free import Relu
from tests.checks.examples import SINE, TARGET, suspicion

# what cannot be seen in one random direction, or in float64 at parameters of order 1


def small_piece(change):
    """A loss whose second piece has a gradient 1e-7 of the first's size; `change` is done to it."""

    def loss_and_grad(phi, batch):
        a, b = phi[:3], phi[3:]
        grad = np.concatenate([np.cos(a), change(1e-7 * np.cos(b))])
        return float(np.sin(a).sum() + 1e-7 * np.sin(b).sum()), grad

    return loss_and_grad


@pytest.mark.parametrize("change", [np.negative, np.zeros_like, lambda g: 1.001 * g])
def test_a_wrong_piece_far_smaller_than_the_others_is_named(change):
    phi, shapes = np.array([0.3, -0.5, 0.2, 0.7, -0.1]), {"large": (3,), "small": (2,)}
    assert check_grad(small_piece(np.copy), phi, None, shapes=shapes).unmeasured == ()
    assert "only piece small" in suspicion(check_grad, small_piece(change), phi, None, shapes=shapes)


def test_a_piece_lost_in_rounding_is_reported_as_not_measured():
    def loss_and_grad(phi, batch):
        return 1e9 + np.sin(phi[0]) * 1e3 + 1e-9 * phi[1], np.array([np.cos(phi[0]) * 1e3, 5.0])

    report = check_grad(
        loss_and_grad, np.array([0.3, 1e-9]), None, shapes={"a": (1,), "b": (1,)}, tolerance=1e-2
    )
    assert report.unmeasured == ("piece b",)
    assert "not measured, hidden by rounding errors or higher orders: piece b" in str(report)


def test_a_kink_exactly_at_phi_is_named():
    def absolute(phi, batch):
        return np.abs(phi).sum() + phi.sum(), np.sign(phi) + 1

    phi = np.array([0.0, 2.0, -1.0])
    assert "kink (ReLU, maximum) exactly at φ" in suspicion(check_grad, absolute, phi, None)
    assert "wrong" in suspicion(check_taylor_order, absolute, phi, None)

    def absolute_slope(phi, batch):
        return (phi * np.abs(phi)).sum() / 2, np.abs(phi)

    report = suspicion(check_hvp, absolute_slope, lambda phi, batch, v: np.sign(phi) * v, phi, None)
    assert "the slope of the gradient jumps at φ" in report


@pytest.mark.parametrize("factor", [1, 3, -1, 0])
def test_where_the_gradient_jumps_there_is_no_hessian_product_to_check(factor):
    """Biases that are 0 and an image without ink: every ReLU is exactly at its kink."""
    model = Model((Dense(4), Relu(), Dense(3)), (5,), SoftmaxCrossEntropy("mean"))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5)), np.arange(6) % 3
    x[0] = 0
    phi = model.init(rng, float)
    said = suspicion(check_hvp, model.loss_and_grad, lambda p, b, v: factor * model.hvp(p, b, v), phi, (x, y))
    assert "the slope of the gradient jumps at φ" in said


def test_a_root_without_a_slope_hides_no_error_of_the_other_entries():
    def loss_and_grad(phi, batch):
        return np.sqrt(abs(phi[0])) + phi[1:] @ phi[1:], np.array([0.0, *(2.02 * phi[1:])])

    assert "exactly at φ" in suspicion(check_grad, loss_and_grad, np.array([0.0, 1.0, 2.0]), None)


@pytest.mark.parametrize("scale", [1.0, 1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("seed", range(3))
def test_the_scale_of_the_parameters_does_not_matter(scale, seed):
    """A ReLU network: steps that do not shrink with φ cross its kinks."""
    rng = np.random.default_rng(seed)
    model = Model((Dense(8), Relu(), Dense(8), Relu(), Dense(2)), (3,), SoftmaxCrossEntropy("mean"))
    phi = scale * rng.standard_normal(model.layout.size)
    # as many labels of either class would cancel at these φ and leave a gradient of rounding errors
    batch = rng.standard_normal((4, 3)), np.array([0, 1, 1, 1])
    assert check_grad(model.loss_and_grad, phi, batch, shapes=model.layout.shapes).holds
    assert check_hvp(model.loss_and_grad, model.hvp, phi, batch, shapes=model.layout.shapes).holds

    def wrong(phi, batch):
        loss, grad = model.loss_and_grad(phi, batch)
        model.layout.views(grad)["dense3/bias"][0] *= 1.01
        return loss, grad

    assert "wrong" in suspicion(check_grad, wrong, phi, batch, shapes=model.layout.shapes)


def in_float32(model, as_float64):
    """The model computing in float32, its results handed over as they are or cast back."""

    def loss_and_grad(phi, batch):
        x, y = batch
        narrow = x.astype(np.float32), y if y.dtype.kind == "i" else y.astype(np.float32)
        loss, grad = model.loss_and_grad(phi.astype(np.float32), narrow)
        return float(loss), grad.astype(np.float64) if as_float64 else grad

    return loss_and_grad


@pytest.mark.parametrize("as_float64", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_right_float32_model_is_told_that_it_is_float32_and_passes_with_its_tolerance(seed, as_float64):
    rng = np.random.default_rng(seed)
    model, phi = SINE, SINE.init(rng, np.float64)
    batch = (rng.standard_normal((5, 1)), rng.standard_normal((5, 1)))
    narrow = in_float32(model, as_float64)
    assert check_taylor_order(narrow, phi, batch).holds
    assert check_grad(narrow, phi, batch, tolerance=1e-2, shapes=model.layout.shapes).holds

    def narrow_hvp(phi, batch, v):
        x, y = (part.astype(np.float32) for part in batch)
        product = model.hvp(phi.astype(np.float32), (x, y), v.astype(np.float32))
        return product.astype(np.float64) if as_float64 else product

    assert check_hvp(narrow, narrow_hvp, phi, batch, tolerance=1e-2).holds
    assert check_taylor_order(narrow, phi, batch, hvp=narrow_hvp).holds
    assert "float32" in suspicion(check_hvp, narrow, narrow_hvp, phi, batch)
    report = suspicion(check_grad, narrow, phi, batch, tolerance=1e-9)
    assert "float32" in report
    assert "mean in one" not in report
    wrong = in_float32(model, as_float64)
    assert "2 times the slope" in suspicion(
        check_grad, lambda phi, batch: (wrong(phi, batch)[0], 2 * wrong(phi, batch)[1]), phi, batch
    )
    assert "the gradient is wrong" in suspicion(
        check_taylor_order, lambda phi, batch: (wrong(phi, batch)[0], 1.5 * wrong(phi, batch)[1]), phi, batch
    )


# other people's libraries


def test_a_pytorch_model_passes_through_the_wrapper_of_the_docs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def f(p, batch):
        return ((torch.tensor(batch[0]) @ p - torch.tensor(batch[1])) ** 4).sum()

    def loss_and_grad(phi, batch):
        p = torch.tensor(phi, requires_grad=True)
        loss = f(p, batch)
        return loss.item(), torch.autograd.grad(loss, p)[0].numpy()

    def hvp(phi, batch, v):
        at, along = torch.tensor(phi), torch.tensor(v)
        return torch.autograd.functional.hvp(lambda p: f(p, batch), at, along)[1].numpy()

    rng = np.random.default_rng(0)
    phi, batch = rng.standard_normal(3), (rng.standard_normal((5, 3)), rng.standard_normal(5))
    assert check_grad(loss_and_grad, phi, batch).holds
    assert check_hvp(loss_and_grad, hvp, phi, batch).holds


def test_a_jax_model_passes_through_a_thin_wrapper():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jax.config.update("jax_enable_x64", True)

    def f(p, batch):
        return ((batch[0] @ p - batch[1]) ** 4).sum()

    def loss_and_grad(phi, batch):
        loss, grad = jax.value_and_grad(f)(phi, batch)
        return float(loss), np.asarray(grad)

    def hvp(phi, batch, v):
        return np.asarray(jax.jvp(lambda p: jax.grad(f)(p, batch), (phi,), (v,))[1])

    rng = np.random.default_rng(0)
    phi, batch = rng.standard_normal(3), (rng.standard_normal((5, 3)), rng.standard_normal(5))
    assert check_grad(loss_and_grad, phi, batch).holds
    assert check_hvp(loss_and_grad, hvp, phi, batch).holds


@pytest.mark.parametrize("wrong_by", [0.0, 1e-13])
@pytest.mark.parametrize("tolerance", [1e-14, 1e-20])
def test_a_tolerance_below_rounding_is_raised_to_it_and_the_error_is_the_error(wrong_by, tolerance):
    def bowl(by):
        return lambda phi, batch: ((phi**2).sum() / 2, (1 + by) * phi)

    phi = np.array([1.0, -2.0, 0.5])
    report = check_grad(bowl(wrong_by), phi, None, tolerance=tolerance)
    assert tolerance < report.tolerance < 1e-11
    assert wrong_by / 3 <= report.error <= report.tolerance
    assert "relative error 1e-11" in suspicion(check_grad, bowl(1e-11), phi, None, tolerance=tolerance)


def barrier(phi, batch):
    """-Σ log φ: infinite from 0 on, near which some entries of φ are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = float(-np.log(phi).sum()) if (phi > 0).all() else np.inf
        return loss, -1 / phi


def barrier_hvp(phi, batch, v):
    return v / phi**2


def normal(phi, batch):
    """The negative log-likelihood of 5.1 for mean and variance φ."""
    mean, variance = phi
    off = 5.1 - mean
    loss = 0.5 * np.log(variance) + off**2 / (2 * variance) if variance > 0 else np.nan
    return loss, np.array([-off / variance, 0.5 / variance - off**2 / (2 * variance**2)])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("function", "phi"),
    [(barrier, [1e-3, 1.0, 2.0]), (barrier, [0.05, 1.0, 2.0]), (normal, [5.0, 0.01])],
)
def test_a_loss_that_is_infinite_at_some_distance_is_checked_at_smaller_steps(function, phi):
    phi = np.array(phi)
    assert check_grad(function, phi, None).holds
    assert check_taylor_order(function, phi, None).holds
    for wrong in (changed_gradient(function, 1.01), changed_gradient(function, -1.0)):
        with pytest.raises(CheckFailure):
            check_grad(wrong, phi, None)
        with pytest.raises(CheckFailure):
            check_taylor_order(wrong, phi, None)
    if function is barrier:
        assert check_taylor_order(function, phi, None, hvp=barrier_hvp).holds


def changed_gradient(function, factor):
    def changed(phi, batch):
        loss, grad = function(phi, batch)
        return loss, factor * grad

    return changed


def fourth_power(phi, batch):
    return float(((phi - TARGET) ** 4).sum()), 4 * (phi - TARGET) ** 3


@pytest.mark.parametrize("distance", [1e-3, 1e-2])
@pytest.mark.parametrize("factor", [1.01, 1.5, 0.0, -1.0])
def test_a_loss_that_is_much_larger_at_some_distance_hides_no_wrong_gradient(distance, factor):
    phi = TARGET + distance
    assert check_taylor_order(fourth_power, phi, None).holds
    with pytest.raises(CheckFailure):
        check_taylor_order(changed_gradient(fourth_power, factor), phi, None)


@pytest.mark.parametrize("size", [1e9, 1e12])
def test_a_report_does_not_say_right_of_what_it_could_not_measure(size):
    def hidden(phi, batch):
        return size + 1e-4 * float(np.sin(phi).sum()), -1e-4 * np.cos(phi)  # the wrong sign

    for check in (check_grad, check_taylor_order) if size == 1e12 else (check_taylor_order,):
        report = check(hidden, TARGET, None)
        assert report.unmeasured
        assert ": nothing found, not even measured along " in str(report)
        assert "right" not in str(report)


def test_an_affine_loss_in_float32_has_the_hessian_zero():
    slope = np.arange(1, 4, dtype=np.float32)

    def affine(phi, batch):
        return np.float32(slope @ phi.astype(np.float32)), slope.copy()

    assert check_hvp(affine, lambda phi, batch, v: 0 * v, TARGET, None, tolerance=1e-2).holds


class LikeTorch:
    """A loss that NumPy may not convert and Python may, as a tensor of PyTorch that requires a gradient."""

    dtype = "float32"
    shape = ()

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


def test_a_loss_that_only_python_can_convert_is_a_number():
    assert check_grad(lambda phi, batch: (LikeTorch(float(phi @ phi)), 2 * phi), TARGET, None).holds
