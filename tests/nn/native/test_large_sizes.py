"""Sizes that 32-bit kernels cannot address are refused before anything is allocated."""

import tracemalloc

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.native.extension import ffi
from reptile_np.nn.native.maps import _checked
from reptile_np.nn.native.matching import match
from reptile_np.nn.native.shapes import LARGEST
from reptile_np.nn.parameter_free import Flatten, Relu
from tests.nn.native.networks import CLASSIFIERS, network_of

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


@pytest.mark.parametrize(
    "padding", [((2**31, 0), (0, 0)), ((0, 2**40), (0, 0)), ((2**28, 2**28), (2**28, 2**28))]
)
def test_huge_sizes_are_refused_before_anything_is_allocated(kernels, padding):
    x, kernel = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
    with pytest.raises(UsageError, match="too large"):
        kernels.conv2d(x, kernel, 1, padding)


@pytest.mark.parametrize("cnn", CLASSIFIERS)
def test_a_minibatch_too_large_for_32_bits_is_refused_before_anything_is_allocated(kernels, cnn):
    model = cnn(5, filters=3)
    network = network_of(model, kernels)
    n = LARGEST // match(model).largest_image + 1
    phi = np.zeros(model.layout.size, np.float32)
    x, y = np.broadcast_to(np.float32(0), (n, 28, 28, 1)), np.zeros(n, np.int32)
    calls = [
        lambda: network.predict(phi, x),
        lambda: network.loss_and_grad(phi, (x, y)),
        lambda: network.hvp(phi, (x, y), phi),
        lambda: network.linearize(phi, (x, y)),
        lambda: network.adapt(Sgd(0.1), phi, [(x, y)], (), "ends"),
    ]
    tracemalloc.start()
    for call in calls:
        with pytest.raises(UsageError, match=f"a minibatch of {n} is too large for 32-bit kernels"):
            call()
    assert tracemalloc.get_traced_memory()[1] < 10 * y.nbytes
    tracemalloc.stop()


TOO_LARGE = "too large for 32-bit kernels; use"


@pytest.mark.parametrize("call", ["predict", "loss_and_grad", "linearize", "hvp"])
@pytest.mark.parametrize("name", native.available())
def test_a_minibatch_whose_padded_images_pass_32_bits_is_refused(name, call):
    """One channel is stored as up to 33 here, which Python's own limit does not count: C used to crash."""
    layers = (
        Conv2d(size=8, stride=8, padding="VALID", filters=16, before_batch_norm=True),
        BatchNorm(),
        Relu(),
        Flatten(),
        Dense(5),
    )
    model = Model(layers, (64, 64, 1), SoftmaxCrossEntropy("sum")).with_ops(native.load(name))
    phi, examples = np.zeros(model.layout.size, np.float32), 70_000
    x, y = np.zeros((examples, 64, 64, 1), np.float32), np.zeros(examples, np.int32)  # never touched
    arguments = {"predict": (phi, x), "hvp": (phi, (x, y), phi)}.get(call, (phi, (x, y)))
    with pytest.raises(
        UsageError, match=f"a minibatch of {examples} is {TOO_LARGE} smaller ones, or NumPy ops"
    ):
        getattr(model, call)(*arguments)


@pytest.mark.parametrize("name", native.available())
def test_a_convolution_whose_offsets_pass_32_bits_is_refused_or_has_memory(name):
    images = 2**24  # the largest number of 1 x 1 images with 32 channels that Python accepts
    x = np.broadcast_to(np.zeros(1, np.float32), (images, 1, 1, 32))
    kernel, window = np.zeros((1, 1, 32, 1), np.float32), (1, ((0, 0), (0, 0)))
    kernels = native.load(name).kernels
    shape = _checked("conv2d", images, x.shape[1:], kernel.shape, *window)
    if kernels.table.conv_size(ffi.new("rk_conv *", shape._asdict()), images) == 0:
        with pytest.raises(UsageError, match=f"convolution: {images} images are {TOO_LARGE} NumPy ops"):
            kernels.conv2d(x, kernel, *window)
