"""Exact MAML through networks in C: it runs there, and is what the layers compute in float64."""

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.models import finn_mini_imagenet_cnn, finn_omniglot_cnn, omniglot_cnn
from tests import native_kernels
from tests.nn.native.networks import counted
from tests.oracles import relative_error
from tests.rounding import TINY, wobbling
from tests.strategies import random_batch, random_phi

NETWORKS = {
    "finn, omniglot": finn_omniglot_cnn(5, filters=6),
    "finn, mini-imagenet": finn_mini_imagenet_cnn(5, filters=4),
    "omniglot": omniglot_cnn(5, filters=6),
}


RATE = float(np.float32(0.1))


def rates_of(model):
    """0.1 for all parameters; 0 for β: Finn's program does not adapt it."""
    rates = np.full(model.layout.size, 0.1, np.float32)
    for name, piece in model.layout.views(rates).items():
        if name.endswith("/beta"):
            piece[:] = 0
    return rates


@pytest.fixture(scope="module", params=[(name, of) for name in NETWORKS for of in ("all", "each")])
def setting(request):
    """Return a network, its rate or rates, φ and the minibatches of two inner steps and of the query."""
    name, of = request.param
    model, rng = NETWORKS[name], np.random.default_rng(0)
    batches = [random_batch(model, rng, 5, np.float32) for _ in range(3)]
    return model, rates_of(model) if of == "each" else RATE, random_phi(model, rng, np.float32), batches


def direction(model, rates, phi, batches, keep="hessians"):
    rule = Sgd(rates)
    return maml(model, rule)(adapt(model, rule, phi, batches, keep=keep))


@pytest.fixture(scope="module")
def double(setting):
    """Return the direction in float64, and the bound of float32's error: see `tests.rounding`."""
    model, rates, phi, batches = setting
    wide = np.asarray(rates, float), phi.astype(float), [(x.astype(float), y) for x, y in batches]
    expected = direction(model, *wide)
    loose = [direction(model.with_ops(wobbling(seed)), *wide) for seed in range(2)]
    return expected, max(relative_error(wobbly, expected) for wobbly in loose) / TINY


@pytest.mark.parametrize("threads", [1, 2])
def test_the_direction_is_as_near_to_float64_as_the_rounding_of_its_products_allows(
    variant, setting, double, threads
):
    model, *place = setting
    expected, bound = double
    actual = direction(model.with_ops(native_kernels.load(variant, threads)), *place)
    assert actual.dtype == np.float32
    assert relative_error(actual, expected) <= bound < 0.05


def test_the_direction_is_bitwise_the_same_whatever_is_kept_and_for_any_number_of_threads(variant, setting):
    model, *place = setting
    one = model.with_ops(native_kernels.load(variant, 1))
    expected = direction(one, *place)
    for keep in ("sqrt", "all"):
        np.testing.assert_array_equal(direction(one, *place, keep), expected)
    for threads in (2, 3):
        team = model.with_ops(native_kernels.load(variant, threads))
        np.testing.assert_array_equal(direction(team, *place), expected)


def test_the_loop_and_the_products_run_in_c(variant, setting):
    """Two inner steps and the query are one loop; back there are two products; with one rate two updates."""
    model, *place = setting
    network = model.with_ops(native_kernels.load(variant, 1))
    counts = counted(network)
    direction(network, *place)
    assert counts == {"loop": 1, "hvp": 2, **({} if np.ndim(place[0]) else {"update": 2})}


@pytest.mark.parametrize("keep", ["all", "hessians", "sqrt"])
def test_a_loop_in_c_with_another_rate_is_refused(variant, setting, keep):
    model, rates, phi, batches = setting
    network = model.with_ops(native_kernels.load(variant, 1))
    with pytest.raises(UsageError, match=r"^maml: the inner loop used Sgd, not as alpha says"):
        maml(network, 2 * rates)(adapt(network, Sgd(rates), phi, batches, keep=keep))


def test_a_parameter_of_rate_zero_stays_and_has_a_direction(variant, setting):
    """The mask keeps β during the inner loop; the outer gradient of β is not zero."""
    model, _, phi, batches = setting
    rates = rates_of(model)
    network = model.with_ops(native_kernels.load(variant, 1))
    t = adapt(network, Sgd(rates), phi, batches, keep="ends")
    np.testing.assert_array_equal(t.phis[-1][rates == 0], phi[rates == 0])
    assert direction(network, rates, phi, batches)[rates == 0].any()
