"""Exactly the networks that C has are computed whole; of any other the model says why not."""

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.nn import native
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import Model, conv_cnn, omniglot_cnn, sine_mlp
from reptile_np.nn.native.extension import lib
from reptile_np.nn.native.matching import MOST_BLOCKS, MOST_DENSE, NotMatched, match
from reptile_np.nn.native.networks import NativeNetwork
from reptile_np.nn.native.threads import MOST_THREADS
from reptile_np.nn.ops import NUMPY
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, Tanh
from tests import native_kernels
from tests.nn.native.networks import PAPERS, single
from tests.oracles import relative_error

CENTRED = Conv2d(filters=3, before_batch_norm=True)
BLOCK = (CENTRED, BatchNorm(), Relu())
CLASSIFY, REGRESS = SoftmaxCrossEntropy("sum"), SquaredError("mean")
NOT_WHOLE = {
    "two dense layers": ((*BLOCK, Flatten(), Dense(3), Dense(2)), "after its blocks come Flatten, Dense, "),
    "no norm": ((Conv2d(filters=3), Relu(), Flatten(), Dense(2)), "after a convolution come Relu, Flatten, "),
    "bias with a gradient": (
        (Conv2d(filters=3), BatchNorm(), Relu(), Flatten(), Dense(2)),
        "a convolution before a batch norm does not say before_batch_norm=True",
    ),
    "overlapping pool": (
        (CENTRED, BatchNorm(), MaxPool(size=3, stride=2), Relu(), Flatten(), Dense(2)),
        "a MaxPool has size 3 and stride 2; the C kernels support equal ones, from 2 to 16384",
    ),
    "pool that skips rows between its windows": (
        (CENTRED, BatchNorm(), MaxPool(size=2, stride=3), Relu(), Flatten(), Dense(2)),
        "a MaxPool has size 2 and stride 3; the C kernels support equal ones, from 2 to 16384",
    ),
    "pool of single pixels": (
        (CENTRED, BatchNorm(), MaxPool(size=1, stride=1), Relu(), Flatten(), Dense(2)),
        "a MaxPool has size 1 and stride 1; the C kernels support equal ones, from 2 to 16384",
    ),
    "epsilon of 0": (
        (CENTRED, BatchNorm(0.0), Relu(), Flatten(), Dense(2)),
        "the epsilon of a BatchNorm is less than 1.2e-38",
    ),
    "epsilon that is subnormal in float32": (
        (CENTRED, BatchNorm(1e-39), Relu(), Flatten(), Dense(2)),
        "the epsilon of a BatchNorm is less than 1.2e-38",
    ),
    "epsilon that float32 rounds to 0": (
        (CENTRED, BatchNorm(1e-50), Relu(), Flatten(), Dense(2)),
        "the epsilon of a BatchNorm is less than 1.2e-38",
    ),
    "nine blocks": (
        (*BLOCK * 9, Flatten(), Dense(2)),
        "it has 9 convolution blocks; the C kernels support 1 to 8",
    ),
}


def test_a_stride_beyond_32_bits_does_not_reach_c(variant):
    conv = Conv2d(filters=3, stride=2**31, before_batch_norm=True)
    model = Model((conv, BatchNorm(), Relu(), Flatten(), Dense(2)), (7, 7, 1), CLASSIFY)
    with pytest.raises(NotMatched, match="a convolution has the stride 2147483648"):
        match(model)
    phi, batch, _ = single(model, np.random.default_rng(0), 4)
    with pytest.raises(UsageError, match="too large for 32-bit kernels; use NumPy ops"):
        model.with_ops(native_kernels.load(variant)).loss_and_grad(phi, batch)


@pytest.mark.parametrize("size", [2**14 + 1, 2**15, 2**25, 2**30, 2**31])
def test_a_pool_so_large_that_indices_of_its_rows_would_overflow_does_not_reach_c(size):
    layers = (CENTRED, BatchNorm(), MaxPool(size=size, stride=size), Relu(), Flatten(), Dense(2))
    with pytest.raises(NotMatched, match=f"a MaxPool has size {size} and stride {size}; "):
        match(Model(layers, (7, 7, 1), CLASSIFY))


def test_a_padding_beyond_32_bits_does_not_reach_c(variant):
    """The column of the last output wrapped around, and read a pixel in place of padding."""
    padding = ((0, 0), (0, 2**32))
    conv = Conv2d(filters=8, size=1, stride=2**29, padding=padding, before_batch_norm=True)
    model = Model((conv, BatchNorm(), Relu(), Flatten(), Dense(2)), (1, 1, 1), CLASSIFY)
    with pytest.raises(NotMatched, match="a convolution has the padding"):
        match(model)
    x, w = np.ones((1, 1, 1, 32), np.float32), np.ones((1, 1, 32, 1), np.float32)
    wide = np.ones((1, 1, 1000, 32), np.float32)
    for image, stride, padding in ((x, 2**28, ((0, 0), (2**28, 0))), (wide, 40_000, FAR_ABOVE["padding"])):
        with pytest.raises(UsageError, match="too large for 32-bit kernels; use NumPy ops"):
            native_kernels.load(variant).conv2d(image, w, stride, padding)


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_a_network_that_c_does_not_have_is_computed_by_its_layers_and_says_why(variant, name):
    layers, reason = NOT_WHOLE[name]
    model = Model(layers, (7, 7, 1), CLASSIFY)
    other = model.with_ops(native_kernels.load(variant))
    assert type(other) is Model
    assert other.kernels.startswith(
        f"native-{variant}: convolutions in C, the rest in NumPy, because {reason}"
    )
    assert "\n" not in other.kernels
    phi, (x, y), v = single(model, np.random.default_rng(0), 4)
    wide = phi.astype(float), (x.astype(float), y)
    assert relative_error(other.predict(phi, x), model.predict(wide[0], wide[1][0])) <= 1e-4
    assert relative_error(other.loss_and_grad(phi, (x, y))[1], model.loss_and_grad(*wide)[1]) <= 1e-4
    assert relative_error(other.hvp(phi, (x, y), v), model.hvp(*wide, v.astype(float))) <= 1e-4


FAR_ABOVE = {"size": 1, "stride": 40_000, "padding": ((20_000, 0), (0, 0))}


def wide_block(filters, **options):
    return Conv2d(filters=filters, before_batch_norm=True, **options), BatchNorm(), Relu()


NO_SHAPE = {
    "cross-entropy on a dense network": (
        Model((Dense(3), Tanh(), Dense(2)), (4,), CLASSIFY),
        "the C kernels support image classifiers",
    ),
    "relu between dense layers": (
        Model((Dense(3), Relu(), Dense(1)), (1,), REGRESS),
        "its layers are Dense, Relu, Dense",
    ),
    "tanh at the end": (Model((Dense(3), Tanh()), (1,), REGRESS), "it has 1 dense and 1 Tanh layers"),
    "nine dense layers": (
        sine_mlp((2,) * 8),
        "it has 9 dense and 8 Tanh layers; the C kernels support 1 to 8",
    ),
    "a kernel as large as a large image": (
        Model((*BLOCK, Flatten(), Dense(2)), (150, 150, 1), CLASSIFY),
        "a kernel, stride or padding",
    ),
    "a signal with a dense layer": (
        Model((*BLOCK, Flatten(), Dense(2)), (1, 20_000, 1), CLASSIFY),
        "a kernel, stride or padding",
    ),
    "an activation of 2^31 floats": (
        Model((*BLOCK, Flatten(), Dense(2)), (30_000, 30_000, 1), CLASSIFY),
        "its arrays are too large",
    ),
    "36 points of a tile for 2^24 pairs of channels": (
        Model((*wide_block(4096), *wide_block(4096), Flatten(), Dense(2)), (2, 2, 1), CLASSIFY),
        "its arrays are too large",
    ),
    "an image of 9 * 10^8 floats and one output": (
        Model((*wide_block(3, size=1, stride=30_000), Flatten(), Dense(2)), (30_000, 30_000, 1), CLASSIFY),
        "its arrays are too large",
    ),
    "20,000 rows of padding above wide rows": (
        Model((*wide_block(3, **FAR_ABOVE), Flatten(), Dense(2)), (1, 1000, 1), CLASSIFY),
        "its arrays are too large",
    ),
    "a dense layer of 2^31 floats": (sine_mlp((2**15, 2**16)), "its arrays are too large"),
}


@pytest.mark.parametrize("name", NO_SHAPE)
def test_a_network_that_does_not_match_is_found_out_before_c_sees_it(name):
    model, reason = NO_SHAPE[name]
    with pytest.raises(NotMatched, match=reason) as error:
        match(model)
    assert "\n" not in str(error.value)


def test_of_a_network_without_convolutions_that_c_does_not_have_nothing_is_in_c(variant):
    ops = native_kernels.load(variant)
    assert ops.describe(sine_mlp((2,) * 8)).startswith(f"native-{variant}: every layer in NumPy, because ")


@pytest.mark.skipif(not native.available(), reason="native kernels are not built here")
def test_the_limits_are_those_of_c():
    limits = MOST_BLOCKS, MOST_DENSE, MOST_THREADS
    assert limits == (lib.RK_MAX_BLOCKS, lib.RK_MAX_DENSE, lib.RK_MAX_THREADS)


def test_a_subclass_of_model_keeps_its_own_methods():
    class Halved(Model):
        def predict(self, phi, x):
            return super().predict(phi, x) / 2

    model = sine_mlp((3,))
    half = Halved(model.layers, model.input_shape, model.loss).with_ops(NUMPY)
    phi, x = model.init(np.random.default_rng(0)), np.ones((2, 1), np.float32)
    np.testing.assert_array_equal(half.predict(phi, x), model.predict(phi, x) / 2)
    if native.available():
        assert type(half.with_ops(native_kernels.load())) is Halved


def test_a_subclass_of_a_loss_or_of_a_convolution_keeps_its_own_methods():
    class Halved(SoftmaxCrossEntropy):
        def per_example(self, z, y):
            return super().per_example(z, y) / 2

    class HalvedError(SquaredError):
        def per_example(self, z, y):
            return super().per_example(z, y) / 2

    class Doubled(Conv2d):
        def product(self, x, w, ops):
            return 2 * super().product(x, w, ops)

    classifier, own = omniglot_cnn(5, 4), Doubled(filters=3, before_batch_norm=True)
    for model in (
        Model(classifier.layers, classifier.input_shape, Halved("sum")),
        Model(sine_mlp((3,)).layers, (1,), HalvedError("mean")),
        Model((own, *classifier.layers[1:3], Flatten(), Dense(5)), (28, 28, 1), CLASSIFY),
    ):
        with pytest.raises(
            NotMatched, match=r"do not have the methods of (Halved|HalvedError|Doubled), a subclass$"
        ):
            match(model)


def test_the_papers_networks_and_networks_for_own_images_are_computed_whole(variant):
    ops = native_kernels.load(variant)
    for model in (
        *PAPERS.values(),
        omniglot_cnn(20),
        *(conv_cnn(shape, 5) for shape in ((28, 28, 1), (84, 84, 3))),
    ):
        assert type(model.with_ops(ops)) is NativeNetwork
        assert model.with_ops(ops).kernels == f"native-{variant}: the whole network in C for float32"
        assert model.kernels == "numpy: every layer in NumPy"
