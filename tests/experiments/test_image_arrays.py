"""Arrays of images of any kind become a network's input, or are refused in one line."""

import io

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.image_arrays import MODES, as_inputs
from reptile_np.tasks.decoding import Conversion, convert
from tests.oracles import gamma

GREY, COLOUR = (28, 28, 1), (28, 28, 3)


@pytest.mark.parametrize("kind", [np.uint8, bool, np.float16, np.float64])
def test_black_and_white_are_0_and_1_in_every_dtype(rng, kind):
    x = rng.random((2, *GREY)) < 0.5
    got = as_inputs(x.astype(kind) * (kind(255) if kind is np.uint8 else kind(1)), GREY)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x)


def test_an_array_without_a_channel_axis_is_grey(rng):
    x = rng.random((2, 28, 28))
    np.testing.assert_array_equal(as_inputs(x, GREY), x[..., np.newaxis].astype(np.float32))


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_bytes_are_converted_as_an_imported_folder_s_are(rng, shape):
    image_module = pytest.importorskip("PIL.Image")
    how = Conversion(*shape, "bicubic", crop=True, upright=True)
    x = rng.integers(0, 256, (1, 60, 45, 3), np.uint8)
    file = io.BytesIO()
    image_module.fromarray(x[0]).save(file, "PNG")
    expected = convert("x.png", file.getvalue(), how, ["PNG"]).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(as_inputs(x, shape, resize=True, recolour=True)[0], expected)


def test_resizing_stays_in_the_range_of_pixels(rng):
    pytest.importorskip("PIL")
    x = rng.random((3, 64, 64)) < 0.5
    got = as_inputs(x, GREY, resize=True)
    assert got.shape == (3, *GREY)
    assert 0 <= got.min() < got.max() <= 1


def test_images_of_different_sizes_are_resized_one_by_one_or_refused(rng):
    pytest.importorskip("PIL")
    images = [rng.random((30, 40), np.float32), rng.random((28, 28), np.float32)]
    expected = np.concatenate([as_inputs(image[None], (28, 28, 1), resize=True) for image in images])
    np.testing.assert_array_equal(as_inputs(images, (28, 28, 1), resize=True), expected)
    with pytest.raises(UsageError, match=r"different sizes or numbers of channels; .* resize=True for sizes"):
        as_inputs(images, (28, 28, 1))
    with pytest.raises(UsageError, match=r"30 x 40 pixels, this model reads 28 x 28; .* or set resize=True"):
        as_inputs(images, (28, 28, 1), recolour=True)


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("grey", [(28, 28), GREY])
def test_grey_and_colour_images_of_one_size_are_recoloured_one_by_one_or_refused(rng, shape, grey):
    images = [rng.random(grey, np.float32), rng.random(COLOUR, np.float32)]
    expected = np.concatenate([as_inputs(image[None], shape, recolour=True) for image in images])
    np.testing.assert_array_equal(as_inputs(images, shape, recolour=True), expected)
    with pytest.raises(UsageError, match=r"different sizes or numbers of channels; .* recolour=True for"):
        as_inputs(images, shape)
    with pytest.raises(UsageError, match=r"channels, this model reads .* or set recolour=True"):
        as_inputs(images, shape, resize=True)


def test_images_of_different_dtypes_are_converted_one_by_one(rng):
    images = [rng.integers(0, 256, (28, 28), np.uint8), rng.random((28, 28)) < 0.5, rng.random((28, 28))]
    expected = np.concatenate([as_inputs(image[None], GREY) for image in images])
    np.testing.assert_array_equal(as_inputs(images, GREY), expected)


def test_a_list_of_grey_images_may_be_three_pixels_wide(rng):
    images = [rng.random((28, 3)) for _ in range(4)]
    pytest.importorskip("PIL")
    assert as_inputs(images, GREY, resize=True).shape == (4, *GREY)


@pytest.mark.parametrize("channels", [3, 4])
def test_one_image_in_colour_is_not_taken_for_many_narrow_ones(channels):
    image = np.zeros((48, 64, channels), np.uint8)
    for given in (image, memoryview(image)):
        with pytest.raises(UsageError, match=r"as one image in colour has; give \(images, .*x\[None\]$"):
            as_inputs(given, GREY, resize=True, recolour=True)


def test_the_largest_pixel_is_said_with_all_its_digits():
    with pytest.raises(UsageError, match=r"^images: floats from 0.0 to 1.0000001; scale them"):
        as_inputs(np.array([[[[0.0], [1 + 2**-23]]]], np.float32), GREY)


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", [np.uint8, bool, np.float32])
def test_transparent_parts_become_white_as_in_an_imported_folder(rng, shape, channels, kind):
    image_module = pytest.importorskip("PIL.Image")
    steps = {np.uint8: 255, bool: 1, np.float32: 15}[kind]
    levels = rng.integers(0, steps + 1, (3, 28, 28, channels))
    x = (levels / steps).astype(kind) if kind is np.float32 else levels.astype(kind)
    got = as_inputs(x, shape, recolour=True)
    how = Conversion(*shape, "bicubic", crop=True, upright=True)
    for image, of_image in zip(levels * (255 // steps), got, strict=True):
        file = io.BytesIO()
        image_module.fromarray(image.astype(np.uint8)).save(file, "PNG")
        expected = convert("x.png", file.getvalue(), how, ["PNG"]) / np.float32(255)
        # Of other kinds neither the image on white nor its luma is rounded to bytes: half a byte each.
        np.testing.assert_allclose(of_image, expected, rtol=0, atol=0 if kind is np.uint8 else 1 / 255)


def test_grey_becomes_three_equal_channels_and_colour_becomes_its_luma(rng):
    grey = rng.random((2, *GREY), np.float32)
    colour = as_inputs(grey, COLOUR, recolour=True)
    np.testing.assert_array_equal(colour, np.repeat(grey, 3, axis=3))
    np.testing.assert_allclose(as_inputs(colour, GREY, recolour=True), grey, rtol=gamma(3, np.float32))
    red = np.zeros((1, *COLOUR))
    red[..., 0] = 1
    np.testing.assert_array_equal(as_inputs(red, GREY, recolour=True), round(0.299 * 2**16) / 2**16)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.zeros((2, 27, 28, 1)),
            "27 x 28 pixels, this model reads 28 x 28; resize them, or set resize=True",
        ),
        (np.zeros((2, 28, 28, 3)), "3 channels, this model reads 1 .*set recolour=True"),
        (np.zeros((2, 28, 28, 4)), "4 channels, this model reads 1 .* with opacity.*set recolour=True"),
        (np.zeros((2, 28, 28, 5)), r"5 channels, this model reads 1 .*\); convert them$"),
        (np.zeros((28, 28, 1)), r"shape \(28, 28, 1\), as one image has; for one image x give x\[None\]$"),
        (np.zeros((0, 28, 28, 1)), r"shape \(0, 28, 28, 1\); give"),
        (np.zeros((28, 28)), r"shape \(28, 28\); give"),
        (np.zeros((2, 28, 28, 1), np.int64), "dtype int64; give uint8"),
        (np.array([["a"]]), "shape"),
        (np.full((2, 28, 28, 1), 255.0), "floats from 255.0 to 255.0; scale them"),
        (np.full((2, 28, 28, 1), np.nan), "NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(x, message):
    with pytest.raises(UsageError, match=message) as error:
        as_inputs(x, GREY)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("given", [1, 3])
def test_images_are_not_recoloured_for_a_network_that_reads_opacity(given, channels):
    with pytest.raises(UsageError, match=rf"{given} channels, this model reads {channels} .*; convert them$"):
        as_inputs(np.zeros((2, 4, 4, given)), (4, 4, channels), recolour=True)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28, 1)])
def test_a_shape_without_channels_or_with_a_batch_is_refused(shape):
    with pytest.raises(UsageError, match=r"^shape is .*; give \(height, width, channels\)$"):
        as_inputs(np.zeros((2, 28, 28)), shape)


@pytest.mark.parametrize("bad", [np.full((28, 28), np.nan), np.zeros((28, 28, 5)), None])
@pytest.mark.parametrize("size", [28, 30])
def test_an_image_of_a_list_that_does_not_fit_is_named_by_its_index(bad, size):
    others = [np.zeros((size, size))] * 20
    with pytest.raises(UsageError, match=r"^image 20 \(the first is 0\): "):
        as_inputs([*others, bad, *others], GREY, resize=True, recolour=True)


def test_nothing_given_is_changed(rng):
    x = rng.random((2, 40, 30, 3), np.float32)
    before = x.copy()
    x.setflags(write=False)
    as_inputs(x, GREY, resize=True, recolour=True)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("resize", [False, True])
def test_an_image_whose_rows_differ_in_length_is_refused(resize):
    with pytest.raises(UsageError, match="rows of an image differ in length"):
        as_inputs([[[1, 2], [3]]], (28, 28, 1), resize=resize)


def test_bytes_of_0_and_1_are_refused_because_they_would_be_nearly_black():
    with pytest.raises(UsageError, match=r"^images: uint8 from 0 to 1; give bool \(x > 0\)"):
        as_inputs(np.ones((2, 5, 5), np.uint8), (5, 5, 1))
    assert as_inputs(np.zeros((2, 5, 5), np.uint8), (5, 5, 1)).max() == 0


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pil_images_of_more_than_8_bits_are_refused_with_what_keeps_their_values(mode):
    """Their conversion to RGBA would make 255 of every larger value."""
    image = pytest.importorskip("PIL.Image").new(mode, (4, 4), 40000)
    with pytest.raises(UsageError, match=r"^image 0 .* PIL mode .*; give np.asarray\(image\) divided by its"):
        as_inputs([image], (4, 4, 1), recolour=True)
    np.testing.assert_allclose(as_inputs([np.asarray(image) / 65535], (4, 4, 1)), 40000 / 65535, rtol=1e-6)


@pytest.mark.parametrize("mode", ["P", "CMYK", "HSV", "YCbCr", "PA"])
def test_pil_images_whose_numbers_are_no_colours_are_refused(mode):
    Image = pytest.importorskip("PIL.Image")
    grey = Image.new("L", (4, 4), 200)
    image = Image.new("PA", (4, 4)) if mode == "PA" else grey.convert("RGB").convert(mode)
    says = rf'image 1 \(the first is 0\) has the PIL mode {mode}; convert it: image.convert\("RGBA"\)'
    with pytest.raises(UsageError, match=says):
        as_inputs([grey, image], (4, 4, 1), recolour=True)


@pytest.mark.parametrize("mode", MODES)
def test_pil_images_of_grey_values_and_colours_are_read(mode):
    Image = pytest.importorskip("PIL.Image")
    white = as_inputs([Image.new("L", (4, 4), 255).convert(mode)], (4, 4, 1), recolour=True)
    np.testing.assert_array_equal(white, np.ones((1, 4, 4, 1), np.float32))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_as_its_exif_orientation_says_as_in_an_import(tmp_path, mode, orientation):
    Image = pytest.importorskip("PIL.Image")
    drawn = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 15)
    exif = Image.Exif()
    exif[0x0112] = orientation
    drawn.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as photo:
        (found,) = as_inputs([photo.convert(mode)], (4, 4, 1), recolour=True)
    how = Conversion(4, 4, 1, "bicubic", upright=True)
    imported = convert("photo", (tmp_path / "photo.png").read_bytes(), how, ["PNG"])
    np.testing.assert_array_equal(np.round(found * 255), imported)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_pil_image_with_transparent_parts_is_refused_until_its_opacity_is_a_channel(tmp_path, mode):
    Image = pytest.importorskip("PIL.Image")
    drawn = Image.new(mode, (4, 4), 0 if mode == "L" else (0, 0, 0))
    drawn.save(tmp_path / "photo.png", transparency=0 if mode == "L" else (0, 0, 0))
    with Image.open(tmp_path / "photo.png") as photo:
        with pytest.raises(
            UsageError, match=r'^image 0 .* has transparent parts; convert it: image.convert\("RGBA"\)'
        ):
            as_inputs([photo], (4, 4, 1), recolour=True)
        assert as_inputs([photo.convert("RGBA")], (4, 4, 1), recolour=True).min() == 1


def test_images_get_the_rows_and_columns_of_a_network_that_is_not_square():
    x = np.zeros((1, 60, 40, 1), np.uint8)
    x[:, :30] = 200
    got = as_inputs(x, (30, 20, 1), resize=True)
    assert got.shape == (1, 30, 20, 1)
    np.testing.assert_allclose(got[0, [2, 27], 10, 0], [200 / 255, 0], atol=1e-6)
