"""What a model may be given, in which dtypes, and what is refused in one line."""

import numpy as np
import pytest

from reptile_np.checks import check_grad, check_hvp
from reptile_np.errors import UsageError
from reptile_np.nn.layers import Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import (
    Model,
    conv_cnn,
    mini_imagenet_cnn,
    omniglot_cnn,
    sine_mlp,
)
from reptile_np.nn.parameter_free import MaxPool, Relu, SpatialMean, Tanh
from tests.oracles import (
    assert_close,
)
from tests.strategies import random_batch, random_phi

X, Y = np.zeros((4, 28, 28, 1), np.float32), np.arange(4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_results_have_the_dtype_of_phi(dtype):
    model, rng = omniglot_cnn(3, filters=6), np.random.default_rng(0)
    phi = model.init(rng, dtype)
    x, y = random_batch(model, rng, 3, np.float32)
    arrays = phi, model.predict(phi, x), model.loss_and_grad(phi, (x, y))[1], model.hvp(phi, (x, y), phi)
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_a_name_in_place_of_a_table_of_kernels_is_refused():
    with pytest.raises(
        UsageError, match=r"^with_ops\('avx2'\): give a table of kernels, such as native\.load"
    ):
        omniglot_cnn(5, filters=4).with_ops("avx2")


BAD = {
    "no channel axis": ((X[..., 0], Y), r"inputs have shape \(4, 28, 28\); this model needs \(b, 28, "),
    "inputs alone": ((X,), r"^a batch is a tuple; give a pair \(x, y\)$"),
    "no batch": (None, r"^a batch is a NoneType; give a pair \(x, y\)$"),
    "ragged inputs": (([[1.0], [1.0, 2.0]], Y), "^inputs have rows of different lengths; give an array$"),
    "ragged labels": ((X, [[0], [1, 2]]), "^labels have rows of different lengths; give an array$"),
    "empty": ((X[:0], Y[:0]), "with b >= 1"),
    "integer pixels": ((X.astype(np.uint8), Y), "inputs have dtype uint8; scale them to floats"),
    "wide pixels": ((X.astype(float), Y), "inputs have dtype float64, phi has float32; convert"),
    "label too large": ((X, Y + 2), "labels run from 2 to 5; this model has labels 0 to 4"),
    "negative label": ((X, Y - 1), "labels run from -1 to 2; this model has labels 0 to 4"),
    "one label short": ((X, Y[:3]), r"labels are int64 \(3,\); need integers of shape \(4,\)"),
    "truth values as labels": ((X, Y > 1), r"labels are bool \(4,\); need integers of shape \(4,\)"),
    "one-hot labels": ((X, np.eye(4, 5)), r"labels are float64 \(4, 5\); need integers of shape \(4,\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_batch_that_does_not_fit_is_refused_in_one_clear_line(ops, bad):
    batch, line = BAD[bad]
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi = model.init(np.random.default_rng(0))
    for call in (lambda: model.loss_and_grad(phi, batch), lambda: model.hvp(phi, batch, phi)):
        with pytest.raises(UsageError, match=line) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8])
def test_labels_may_be_integers_of_any_kind(ops, dtype):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi = model.init(np.random.default_rng(0))
    one, other = (model.loss_and_grad(phi, (X, labels)) for labels in (Y, Y.astype(dtype)))
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


def test_targets_that_do_not_fit_are_refused_in_one_clear_line(ops):
    model, x = sine_mlp().with_ops(ops), np.zeros((3, 1), np.float32)
    phi = model.init(np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"^targets have shape \(3,\); need \(3, 1\)$"):
        model.loss_and_grad(phi, (x, x[:, 0]))
    with pytest.raises(UsageError, match=r"^targets have dtype float64, phi has float32"):
        model.loss_and_grad(phi, (x, x.astype(float)))
    with pytest.raises(
        UsageError, match=r"^targets have dtype int32, phi has float32"
    ):  # not all fit float32
        model.loss_and_grad(phi, (x, x.astype(np.int32)))


def test_images_in_float16_are_those_in_float32(ops):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi, half = (
        model.init(np.random.default_rng(0)),
        np.random.default_rng(0).random(X.shape).astype(np.float16),
    )
    one, other = (model.loss_and_grad(phi, (x, Y)) for x in (half, half.astype(np.float32)))
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


def test_a_phi_of_another_length_is_refused(ops):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    with pytest.raises(UsageError, match=r"phi .*\(3,\)"):
        model.predict(np.zeros(3, np.float32), X)


def test_a_direction_of_another_length_is_refused(ops):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi = model.init(np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"^v .*\(3,\)"):
        model.hvp(phi, (X, Y), phi[:3])


def test_a_model_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="first layer must be Dense or Conv2d"):
        Model((Relu(), Dense(2)), (2,), SoftmaxCrossEntropy("sum"))
    with pytest.raises(UsageError, match="first layer must be Dense or Conv2d"):
        Model((), (2,), SoftmaxCrossEntropy("sum"))
    with pytest.raises(UsageError, match=r"^order 'pool' is unknown; use \"conv-norm-pool\" or"):
        mini_imagenet_cnn(5, order="pool")


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_network_may_have_images_as_outputs(reduction):
    rng = np.random.default_rng(0)
    model = Model((Conv2d(filters=2),), (4, 5, 1), SquaredError(reduction))
    phi = model.init(rng, np.float64)
    batch = rng.normal(size=(3, 4, 5, 1)), rng.normal(size=(3, 4, 5, 2))
    assert check_grad(model.loss_and_grad, phi, batch).holds
    assert check_hvp(model.loss_and_grad, model.hvp, phi, batch).holds


def test_cross_entropy_needs_a_vector_of_outputs():
    rng = np.random.default_rng(0)
    model = Model((Conv2d(filters=2),), (4, 5, 1), SoftmaxCrossEntropy("sum"))
    batch = rng.normal(size=(3, 4, 5, 1)), np.array([0, 1, 0])
    with pytest.raises(
        UsageError, match=r"a vector of outputs .* not \(4, 5, 2\); end the layers with Flatten"
    ):
        model.loss_and_grad(model.init(rng, np.float64), batch)


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        (
            (Conv2d(filters=2), Dense(3)),
            r"^Dense needs a vector for each example, not \(4, 4, 2\): put Flatten\(\) or SpatialMean",
        ),
        ((Dense(3), Conv2d(filters=2)), r"^Conv2d needs an image \(rows, cols, channels\), not \(3,\)$"),
        ((Dense(3), MaxPool()), r"^MaxPool needs an image \(rows, cols, channels\), not \(3,\)$"),
        ((Dense(3), SpatialMean()), r"^SpatialMean needs an image \(rows, cols, channels\), not \(3,\)$"),
    ],
)
def test_layers_that_do_not_fit_together_are_named(layers, line):
    model = Model(layers, (4, 4, 1) if isinstance(layers[0], Conv2d) else (2,), SquaredError("sum"))
    for use in (
        lambda: model.init(np.random.default_rng(0)),
        lambda: model.layout,
        lambda: model.output_shape,
    ):
        with pytest.raises(UsageError, match=line):
            use()


@pytest.mark.parametrize(
    ("shape", "loss", "line"),
    [
        ((3,), "mean", r"^Model: the loss is 'mean'; give one, such as SquaredError\(\"mean\"\)$"),
        ((3,), SquaredError, r"^Model: the loss is <class .*>; give one, such as"),
        (3, SquaredError("sum"), r"^Model: input_shape is 3; give a tuple, such as \(28, 28, 1\)$"),
        (
            (-1,),
            SquaredError("sum"),
            r"^Model: a side of input_shape is -1; give a whole number of at least 1$",
        ),
    ],
)
def test_a_shape_or_a_loss_that_is_none_is_refused(shape, loss, line):
    with pytest.raises(UsageError, match=line):
        Model((Dense(2),), shape, loss)


class Summed(SquaredError):
    """A loss of the caller's, without the check of `SquaredError`."""

    def __post_init__(self):
        pass


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"layers": (Dense(3), Relu, Dense(1))}, r"^Model: <class .*Relu'> is no layer; give one, such as"),
        ({"layers": (Dense(3), np.tanh)}, r"^Model: <ufunc 'tanh'> is no layer; give one, such as Relu\(\)$"),
        ({"layers": Dense(3)}, r"^Model: layers is a Dense; give a tuple of layers$"),
        ({"loss": Summed("none")}, r"^Summed: reduction is 'none'; give \"sum\" or \"mean\"$"),
        ({"ops": "avx2"}, r"^Model: ops is 'avx2'; give a table of kernels, such as NUMPY$"),
    ],
    ids=["class", "function", "one layer", "reduction", "ops"],
)
def test_a_part_of_a_model_that_is_none_is_refused(arguments, line):
    """A `reduction` that is neither would be computed as the mean."""
    parts = {"layers": (Dense(2),), "input_shape": (3,), "loss": SquaredError("sum")}
    with pytest.raises(UsageError, match=line):
        Model(**(parts | arguments))


def test_layers_may_be_a_list_that_changes_later():
    layers = [Dense(2)]
    model = Model(layers, (3,), SquaredError("sum"))
    layers.append(Tanh())
    assert model.layers == (Dense(2),)
    assert hash(model) == hash(Model((Dense(2),), (3,), SquaredError("sum")))


def test_a_phi_of_whole_numbers_is_refused():
    model = sine_mlp((2,))
    phi, x = model.init(np.random.default_rng(0)).astype(int), np.zeros((3, 1), np.float32)
    for call in (lambda: model.predict(phi, x), lambda: model.loss_and_grad(phi, (x, x))):
        with pytest.raises(
            UsageError, match=r"^phi is int64, which holds no fractions; use float32 or float64$"
        ):
            call()


def test_the_shape_of_the_input_may_be_a_list():
    model, rng = conv_cnn([28, 28, 1], 5), np.random.default_rng(0)
    assert model.predict(model.init(rng), np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 5)


def test_a_hessian_product_with_a_float32_direction_has_the_precision_of_a_float64_phi():
    model, rng = sine_mlp(), np.random.default_rng(0)
    phi = random_phi(model, rng)
    x, y = (part.astype(np.float32) for part in random_batch(model, rng, 4))
    v = rng.normal(size=len(phi)).astype(np.float32)
    assert_close(model.hvp(phi, (x, y), v), model.hvp(phi, (x.astype(float), y), v.astype(float)), 1e-12)


def test_float16_is_refused():
    rng = np.random.default_rng(0)
    model = omniglot_cnn(5, 4)
    with pytest.raises(UsageError, match=r"^init: float16 is too narrow .*; use float32$"):
        model.init(rng, "e")
    phi, x = model.init(rng).astype(np.float16), np.zeros((5, 28, 28, 1), np.float16)
    for call in (lambda: model.predict(phi, x), lambda: model.loss_and_grad(phi, (x, np.arange(5)))):
        with pytest.raises(UsageError, match=r"phi is float16, .*; use float32"):
            call()
