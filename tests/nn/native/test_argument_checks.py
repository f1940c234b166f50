"""Whatever `native` is handed, the answer is NumPy's, or one clear line; never a crash."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native
from reptile_np.nn.models import sine_mlp
from reptile_np.nn.ops import NUMPY
from tests.conftest import tables
from tests.nn.native.networks import CLASSIFIERS, network_of
from tests.strategies import convolutions as fitting_convolutions

built = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")

shapes = st.lists(st.integers(0, 6), min_size=0, max_size=5).map(tuple)
dtypes = st.sampled_from([np.float32, np.float32, np.float32, np.float64, np.int32, np.complex64, ">f4"])


twists = st.sampled_from(["plain", "read-only", "transposed", "strided", "reversed", "odd address"])


def numbers(shape, dtype=np.float32):
    """0 to 6 in turn: an entry that is read from a wrong place is another number."""
    return (np.arange(math.prod(shape)) % 7).astype(dtype).reshape(shape)


def twisted(array, twist):
    """The same entries, elsewhere in memory or read-only."""
    if twist == "read-only":
        array.setflags(write=False)
    elif twist == "transposed":
        array = np.ascontiguousarray(array.T).T
    elif twist == "strided" and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif twist == "reversed" and array.ndim:
        array = array[::-1].copy()[::-1]
    elif twist == "odd address":
        raw = np.zeros(array.nbytes + 1, np.uint8)
        odd = raw[1:].view(array.dtype).reshape(array.shape)
        odd[...] = array
        array = odd
    return array


@st.composite
def odd_arrays(draw, shape=shapes):
    """Any shape and dtype; maybe read-only, transposed, strided, or at an odd address."""
    return twisted(numbers(draw(shape), draw(dtypes)), draw(twists))


def answers(function):
    """What a call gives: ("value", array) or ("error", None)."""
    try:
        return "value", function()
    except (ValueError, IndexError, TypeError) as error:
        return "error", error


pads = st.tuples(*[st.tuples(st.integers(-1, 4), st.integers(-1, 4))] * 2)
four = st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6), st.integers(0, 4))
kernel_shapes = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))


@built
@given(
    x=odd_arrays(st.one_of(four, shapes)),
    kernel=odd_arrays(st.one_of(kernel_shapes, shapes)),
    stride=st.integers(-1, 3),
    padding=pads,
    size=st.tuples(st.integers(-1, 7), st.integers(-1, 7)),
)
def test_convolutions_of_anything_end_in_a_value_or_in_an_error(kernels, x, kernel, stride, padding, size):
    calls = {
        "conv2d": (x, kernel, stride, padding),
        "conv2d_input": (x, kernel, stride, padding, size),
        "conv2d_weight": (x, kernel, stride, padding, size),
    }
    for name, arguments in calls.items():
        native_input = x.dtype == kernel.dtype == np.float32 and x.size and kernel.size
        if not native_input:
            continue  # NumPy's own answer, whatever it is
        kind, actual = answers(lambda name=name, a=arguments: getattr(kernels, name)(*a))
        if kind == "value":
            np.testing.assert_array_equal(actual, getattr(NUMPY, name)(*arguments))
        else:
            assert isinstance(actual, UsageError)
            assert str(actual).startswith(name)


@built
@given(fitting=fitting_convolutions(np.float32), twist=twists)
def test_convolutions_of_arrays_that_lie_anyhow_in_memory_are_numpy_s(kernels, fitting, twist):
    lying = replace(
        fitting, **{name: twisted(getattr(fitting, name), twist) for name in ("x", "kernel", "y_bar")}
    )
    for actual, expected in zip(lying.maps(kernels), fitting.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


IMAGES, KERNEL, OUTPUTS = (2, 6, 7, 3), (3, 2, 3, 4), (2, 3, 4, 4)  # of stride 2, padding ((1, 0), (0, 1))
EVERY, BY_INPUTS, BY_OUTPUTS = ("", "_input", "_weight"), ("", "_weight"), ("_input", "_weight")
WRONG = {
    "stride of 0": ({"stride": 0}, EVERY, "must be whole and positive"),
    "stride of 1.5": ({"stride": 1.5}, EVERY, "must be whole and positive"),
    "stride of NaN": ({"stride": math.nan}, EVERY, "give whole numbers"),
    "infinite stride": ({"stride": math.inf}, EVERY, "give whole numbers"),
    "no stride": ({"stride": None}, EVERY, "give whole numbers"),
    "stride as text": ({"stride": "2"}, EVERY, "stride '2', .* must be whole and positive"),
    "padding by name": ({"padding": "SAME"}, EVERY, "padding as "),
    "a size of one number": ({"size": (6,)}, ("_input",), "two numbers as size"),
    "taps of one number": ({"taps": (3,)}, ("_weight",), "two numbers as size or taps"),
    "negative padding above": ({"padding": ((-1, 0), (0, 1))}, EVERY, "must not be negative"),
    "negative padding at the right": ({"padding": ((1, 0), (0, -1))}, EVERY, "must not be negative"),
    "kernel too high": ({"kernel": (8, 2, 3, 4), "taps": (8, 2)}, EVERY, "does not fit"),
    "kernel too wide": ({"kernel": (3, 9, 3, 4), "taps": (3, 9)}, EVERY, "does not fit"),
    "other channels": ({"kernel": (3, 2, 2, 4)}, ("",), "that agree"),
    "other filters": ({"y_bar": (2, 3, 4, 5)}, ("_input",), "that agree"),
    "another batch": ({"y_bar": (1, 3, 4, 4)}, ("_weight",), "that agree"),
    "more output rows": ({"y_bar": (2, 4, 4, 4)}, BY_OUTPUTS, "y_bar"),
    "fewer output columns": ({"y_bar": (2, 3, 3, 4)}, BY_OUTPUTS, "y_bar"),
    "images of three axes": ({"x": (6, 7, 3)}, BY_INPUTS, "that agree"),
    "outputs of three axes": ({"y_bar": (3, 4, 4)}, BY_OUTPUTS, "that agree"),
    "an image of 0 rows": ({"size": (0, 7)}, ("_input",), "must be whole and positive"),
    "a kernel of 0 rows": ({"taps": (0, 2)}, ("_weight",), "must be whole and positive"),
}
"""What is wrong: values, the convolutions that must refuse them, and a part of the message."""


def convolutions(
    table, *, x=IMAGES, kernel=KERNEL, y_bar=OUTPUTS, stride=2, padding=((1, 0), (0, 1)), **more
):
    """The three convolutions of distinct numbers, by name."""
    x, kernel, y_bar = map(numbers, (x, kernel, y_bar))
    size, taps = more.get("size", IMAGES[1:3]), more.get("taps", KERNEL[:2])
    return {
        "conv2d": lambda: table.conv2d(x, kernel, stride, padding),
        "conv2d_input": lambda: table.conv2d_input(y_bar, kernel, stride, padding, size),
        "conv2d_weight": lambda: table.conv2d_weight(x, y_bar, stride, padding, taps),
    }


@built
def test_the_right_convolutions_are_numpy_s(kernels):
    expected = convolutions(NUMPY)
    for name, call in convolutions(kernels).items():
        np.testing.assert_array_equal(call(), expected[name]())


@built
@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_thing_is_refused_by_name(kernels, name):
    changes, refusing, message = WRONG[name]
    calls = convolutions(kernels, **changes)
    for suffix in refusing:
        with pytest.raises(UsageError, match=f"^conv2d{suffix}: .*{message}"):
            calls[f"conv2d{suffix}"]()


@built
def test_a_kernel_that_reaches_too_far_above_an_image_is_refused(kernels):
    """Its offsets were not counted, and C read outside of its memory."""
    x, kernel = (np.broadcast_to(np.float32(0), s) for s in ((1, 2, 13600, 3296), (49, 1, 3296, 1)))
    with pytest.raises(UsageError, match="too large for 32-bit kernels"):
        kernels.conv2d(x, kernel, 1, ((47, 0), (0, 0)))


class Lying(np.ndarray):
    """Labels that say they are all in range."""

    def min(self, *args, **kwargs):
        return 0

    def max(self, *args, **kwargs):
        return 0


@pytest.mark.parametrize("network", CLASSIFIERS)
@pytest.mark.parametrize("label", [-(2**30), 2**30])
@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_labels_out_of_range_are_refused_whatever_their_array_says_of_them(table, label, network):
    """In a masked array or a lying subclass they passed the check, and C read outside of its memory."""
    model = network(5, filters=3).with_ops(table)
    phi, x = np.zeros(model.layout.size, np.float32), np.zeros((2, 28, 28, 1), np.float32)
    labels = np.array([0, label])
    for y in (np.ma.MaskedArray(labels, [False, True]), labels.view(Lying)):
        for call in (model.loss_and_grad, model.linearize, lambda phi, batch: model.hvp(phi, batch, phi)):
            with pytest.raises(UsageError, match="labels run from"):
                call(phi, (x, y))
        with pytest.raises(UsageError, match="labels run from"):
            adapt(model, Sgd(0.1), phi, [(x, y)], keep="ends")


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_subclasses_of_arrays_get_the_answer_of_the_plain_array(table):
    model = sine_mlp((4,)).with_ops(table)
    phi, x = model.init(np.random.default_rng(0)), np.ones((3, 1), np.float32)
    expected = model.loss_and_grad(phi, (x, x))
    masked = [np.ma.MaskedArray(array, np.zeros(array.shape, bool)) for array in (phi, x)]
    loss, grad = model.loss_and_grad(masked[0], (masked[1], masked[1]))
    assert (loss, type(grad)) == (expected[0], np.ndarray)
    np.testing.assert_array_equal(grad, expected[1])
    assert type(model.predict(masked[0], masked[1])) is np.ndarray


@built
def test_a_native_network_without_native_kernels_is_refused():
    network = network_of(sine_mlp((4,)), native.load(threads=1))
    with pytest.raises(UsageError, match=r"^NativeNetwork: ops are numpy; use Model, or ops of native\.load"):
        replace(network, ops=NUMPY)


@built
@pytest.mark.parametrize("cnn", CLASSIFIERS)
@given(
    x=odd_arrays(st.one_of(st.just((2, 28, 28, 1)), four)),
    y=odd_arrays(st.one_of(st.just((2,)), shapes)),
    bad=st.integers(-3, 6),
)
def test_a_network_answers_or_says_in_one_line_what_is_wrong(kernels, cnn, x, y, bad):
    model = cnn(5, filters=3)
    network, phi = network_of(model, kernels), np.zeros(model.layout.size, np.float32)
    y = (y * bad).astype(np.int64) if y.dtype == np.int32 else y
    kind, result = answers(lambda: network.loss_and_grad(phi, (x, y)))
    assert answers(lambda: network.linearize(phi, (x, y)).hvp(phi))[0] == kind
    fits = x.shape == (2, 28, 28, 1) and x.dtype.newbyteorder("=") == np.float32
    fits = fits and y.shape == (2,) and y.dtype.kind == "i" and 0 <= bad < 5
    assert kind == ("value" if fits else "error")
    if kind == "error":
        assert isinstance(result, UsageError)
        assert "\n" not in str(result)


@built
@pytest.mark.parametrize("model", [*(network(5, filters=3) for network in CLASSIFIERS), sine_mlp((7,))])
def test_a_vector_of_the_wrong_length_is_refused(kernels, model):
    network, n = network_of(model, kernels), model.layout.size
    x = np.zeros((2, *model.input_shape), np.float32)
    y = np.zeros(2, int) if len(model.input_shape) == 3 else np.zeros((2, 1), np.float32)
    good = np.zeros(n, np.float32)
    for wrong in (np.zeros(n + 1, np.float32), np.zeros((n, 1), np.float32)):
        for call in (
            lambda v: network.update(Sgd(0.1), v, (), good),
            lambda v: network.update(Sgd(0.1), good, (), v),
            lambda v: adapt(network, Sgd(0.1), v, [(x, y)], keep="ends"),
            lambda v: network.predict(v, x),
            lambda v: network.loss_and_grad(v, (x, y)),
            lambda v: network.hvp(v, (x, y), good),
            lambda v: network.hvp(good, (x, y), v),
            lambda v: network.linearize(v, (x, y)),
            lambda v: network.linearize(good, (x, y)).hvp(v),
        ):
            with pytest.raises(UsageError, match="this model needs float32"):
                call(wrong)


@built
@pytest.mark.parametrize("network", CLASSIFIERS)
@pytest.mark.parametrize("label", [-1, 5, 2**31, -(2**62)])
def test_labels_out_of_range_are_refused(kernels, label, network):
    model = network(5, filters=3)
    batch = np.zeros((1, 28, 28, 1), np.float32), np.array([label])
    with pytest.raises(UsageError, match="labels run from"):
        network_of(model, kernels).loss_and_grad(np.zeros(model.layout.size, np.float32), batch)
