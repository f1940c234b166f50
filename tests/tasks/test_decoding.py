"""Image files of every kind become uint8 pixels as the documents say, or a line that names the file."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.tasks import decoding
from reptile_np.tasks.decoding import BadImage, Conversion, convert, decode_all, formats, suffixes
from tests.refusal import refusal as one_line

Image = pytest.importorskip("PIL.Image", reason="decoding needs the extra images")

COLOUR = Conversion(4, 4, 3, "bicubic")
GREY = Conversion(4, 4, 1, "bicubic")
RANDOM = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)


def encoded(image, format="PNG", **more):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **more)
    return buffer.getvalue()


def refusal(content, how=COLOUR, allowed=None):
    said = one_line(convert, "a/name.png", content, how, allowed or formats())
    assert said.startswith("a/name.png: ")
    return said


# Values


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_an_image_of_the_right_size_is_used_as_it_is(format):
    np.testing.assert_array_equal(convert("x", encoded(RANDOM, format), COLOUR, formats()), RANDOM)


def test_grey_is_the_luma_of_colour_and_colour_of_grey_repeats_it():
    red, green, blue = RANDOM.astype(int).transpose(2, 0, 1)
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # 0.299, 0.587, 0.114 in 16 bits
    got = convert("x", encoded(RANDOM), GREY, formats())
    assert got.shape == (4, 4, 1)
    np.testing.assert_array_equal(got[..., 0], luma)
    grey = RANDOM[..., 0]
    np.testing.assert_array_equal(
        convert("x", encoded(grey), COLOUR, formats()), np.stack([grey] * 3, axis=-1)
    )


def test_one_bit_is_black_and_white():
    bits = RANDOM[..., 0] > 128
    np.testing.assert_array_equal(convert("x", encoded(bits), GREY, formats())[..., 0], bits * 255)


def test_sixteen_bits_are_divided_by_257_and_rounded():
    values = np.array([0, 128, 129, 257, 385, 386, 65406, 65407, 65535, *range(1000, 1007)], np.uint16)
    got = convert("x", encoded(values.reshape(4, 4)), GREY, formats()).ravel()
    assert got.tolist() == [round(v / 257) for v in values.tolist()]
    assert got[:9].tolist() == [0, 0, 1, 1, 1, 2, 254, 255, 255]


@pytest.mark.parametrize(("largest", "pixels"), [(65535, [0, 1, 255, 4]), (4095, [0, 16, 255, 64])])
def test_sixteen_bits_of_a_pgm_are_scaled_by_its_largest_value(largest, pixels):
    content = b"P5 2 2 %d\n" % largest + np.array([0, 257, largest, 1028], ">u2").tobytes()
    got = convert("x", content, Conversion(2, 2, 1, "bicubic"), formats()).ravel()
    assert got.tolist() == pixels


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white_and_others_keep_their_colour(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 2, 4))
    if mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.paste(0, (0, 0, 2, 4))
        content = encoded(image, transparency=0)
    else:
        content = encoded(image.convert(mode))
    got = convert("x", content, GREY, formats())[..., 0]
    assert got.tolist() == [[255, 255, 0, 0]] * 4


def test_half_transparent_black_is_grey():
    content = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 51)))  # a fifth of black on white
    assert set(convert("x", content, GREY, formats()).ravel().tolist()) == {204}


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    for format in ("GIF", "TIFF"):
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert set(convert("x", content, GREY, formats()).ravel().tolist()) == {10}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("upright", [False, True])
def test_an_image_is_turned_as_its_orientation_says_if_asked(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(RANDOM, exif=exif.tobytes())
    turned = {
        1: RANDOM,
        2: RANDOM[:, ::-1],
        3: RANDOM[::-1, ::-1],
        4: RANDOM[::-1],
        5: RANDOM.swapaxes(0, 1),
        6: np.rot90(RANDOM, -1),
        7: RANDOM.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(RANDOM),
    }[orientation]
    how = Conversion(4, 4, 3, "bicubic", upright=upright)
    np.testing.assert_array_equal(convert("x", content, how, formats()), turned if upright else RANDOM)


def test_cropping_keeps_the_proportions_and_stretching_does_not():
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = RANDOM[..., 0]
    crop, stretch = (Conversion(4, 4, 1, "nearest", crop=crop) for crop in (True, False))
    np.testing.assert_array_equal(convert("x", encoded(wide), crop, formats())[..., 0], RANDOM[..., 0])
    np.testing.assert_array_equal(convert("x", encoded(wide), stretch, formats())[..., 0], wide[:, 1::3])


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_filter_is_pillows_of_that_name(name):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8))
    expected = np.asarray(image.resize((5, 4), getattr(Image.Resampling, name.upper())))
    got = convert("x", encoded(image), Conversion(4, 5, 3, name), formats())
    np.testing.assert_array_equal(got, expected)


# Refusals


@pytest.mark.parametrize("cut", range(0, encoded(RANDOM).index(b"IDAT") + 60, 3))
def test_a_png_cut_before_the_end_of_its_pixels_is_refused_by_name(cut):
    refusal(encoded(RANDOM)[:cut])


@pytest.mark.parametrize("format", ["JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@given(data=st.data())
def test_a_damaged_image_is_refused_by_name_or_still_pixels(format, data):
    content = bytearray(encoded(RANDOM, format))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            got = convert(
                "a/name", bytes(content[: data.draw(st.integers(0, len(content)))]), COLOUR, formats()
            )
        except BadImage as bad:
            said = str(bad)
        else:
            said = ""
            assert (got.shape, got.dtype) == ((4, 4, 3), np.uint8)
    assert "\n" not in said


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"])
def test_what_is_no_image_is_refused(content):
    assert "not an image" in refusal(content)


def test_formats_that_start_another_program_are_not_read():
    assert "EPS" not in formats()
    assert not suffixes() & {".eps", ".ps"}
    assert {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".webp"} <= suffixes()


def test_a_format_that_is_not_allowed_is_refused():
    assert "not an image of a format" in refusal(encoded(RANDOM, "BMP"), allowed=["PNG", "JPEG"])


def test_pixels_without_an_agreed_scale_are_refused():
    assert "floating point" in refusal(encoded(np.ones((4, 4), np.float32), "TIFF"))
    for largest in (255, 65535, 1 << 20):
        assert "32-bit" in refusal(encoded(np.full((4, 4), largest, np.int32), "TIFF"))


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(width, height, *chunks, bits=8):
    """A PNG of grey whose header may say what its contents do not keep."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize(("transparent", "pixels"), [(0, [255, 1, 255]), (257, [0, 255, 255])])
def test_a_transparent_value_of_sixteen_bits_becomes_white(transparent, pixels, upright):
    row = b"\0" + np.array([0, 257, 65535], ">u2").tobytes()
    transparency = chunk(b"tRNS", struct.pack(">H", transparent))
    content = png_of(3, 1, transparency, chunk(b"IDAT", zlib.compress(row)), bits=16)
    how = Conversion(1, 3, 1, "bicubic", upright=upright)
    assert convert("x", content, how, formats()).ravel().tolist() == pixels


@pytest.mark.parametrize(
    ("side", "says"),
    [
        (8001, "8001 x 8001 pixels; the limit is 64,000,000, resize it"),
        (10_000, "more than 64,000,000 pixels, the limit; resize it"),
        (50_000, "more than 64,000,000 pixels, the limit; resize it"),
    ],
)
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(side, says):
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as for users; Pillow only warns of some of these images
        [[(_, bad)]] = decode_all(
            [("a/name.png", png_of(side, side))],
            lambda key, content: convert(key, content, COLOUR, formats()),
        )
    assert says in str(bad)
    assert "\n" not in str(bad)


def test_text_that_decompresses_to_much_is_refused():
    text = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1 << 24)))
    assert "cannot be decoded" in refusal(png_of(4, 4, text, chunk(b"IDAT", zlib.compress(bytes(20)))))


def test_without_pillow_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ValueError, match="pip install pillow"):
        decoding.pillow()


# Many at once


@given(st.integers(0, 300))
def test_batches_are_in_order_and_whole(count):
    got = [
        item
        for batch in decode_all(((i, bytes([i % 256])) for i in range(count)), as_pixel)
        for item in batch
    ]
    assert [key for key, _ in got] == list(range(count))
    assert all(pixel[0] == key % 256 for key, pixel in got)


def as_pixel(key, content):
    return np.frombuffer(content, np.uint8)


def test_large_files_make_small_batches():
    large = bytes(decoding.BATCH_BYTES // 2)
    sizes = [len(batch) for batch in decode_all([(i, large) for i in range(5)], lambda key, content: key)]
    assert sizes == [2, 2, 1]


def test_a_bad_image_takes_the_place_of_its_pixels_and_the_others_are_decoded():
    def decode(key, content):
        if key == 1:
            raise BadImage("one: broken")
        return as_pixel(key, content)

    [batch] = decode_all([(i, b"x") for i in range(3)], decode)
    assert [str(image) if isinstance(image, BadImage) else "fine" for _, image in batch] == [
        "fine",
        "one: broken",
        "fine",
    ]


def test_only_a_few_batches_are_read_ahead_of_the_decoder():
    read, gate = [], threading.Event()

    def files():
        for i in range(100_000):
            read.append(i)
            yield i, b"x"

    batches = decode_all(files(), lambda key, content: gate.wait() and as_pixel(key, content))
    threading.Timer(0.2, gate.set).start()
    next(batches)
    assert len(read) <= (2 * decoding.cores() + 1) * decoding.BATCH
    batches.close()
