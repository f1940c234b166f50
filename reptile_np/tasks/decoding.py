"""From the bytes of an image file to pixels (h, w, c) uint8, by Pillow, on all cores.

Pillow reads many formats, and a damaged file makes it raise nearly any exception: here every one becomes a
`BadImage` of one line that names the file.

Verified by ``tests/tasks/test_decoding.py``.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from reptile_np.errors import UsageError, printable, reason
from reptile_np.machine import cores

__all__ = [
    "BATCH",
    "BATCH_BYTES",
    "LARGEST_IMAGE",
    "BadImage",
    "Conversion",
    "Filter",
    "Key",
    "Pixels",
    "convert",
    "decode_all",
    "formats",
    "not_read",
    "opened",
    "pillow",
    "pillow_version",
    "suffixes",
]

if TYPE_CHECKING:
    from types import ModuleType

Pixels = NDArray[np.uint8]
Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Key = TypeVar("Key")

LARGEST_IMAGE = 64_000_000  # pixels: a photograph of 8000 x 8000; decoded 256 MB
BATCH = 64  # images handed to a thread at once,
BATCH_BYTES = 1 << 20  # or fewer, if their files are larger: memory and the wait after Ctrl-C stay small

_UNSAFE = {"EPS"}  # Pillow starts Ghostscript to read these
_SIXTEEN_BITS = {"PNG", "PPM"}  # formats whose mode I (32 bits) holds 16 bits, the most they have


class BadImage(UsageError):
    """An image file that cannot be used; its one line names the file."""


@dataclass(frozen=True)
class Conversion:
    """How an image file becomes pixels (height, width, channels); kept in the manifest of a data set.

    Parameters
    ----------
    height, width, channels : int
        Of the result; 1 channel is grey (ITU-R 601 luma), 3 are red, green, blue.
    filter : str
        Pillow's resampling filter, used if the size differs; an image of this size is used as it is.
    crop : bool
        Cut the largest centred rectangle of the result's proportions before resizing; otherwise the image
        is stretched.
    upright : bool
        Turn the image as its EXIF orientation says.
    """

    height: int
    width: int
    channels: int
    filter: Filter
    crop: bool = False
    upright: bool = False


def pillow() -> ModuleType:
    """Return Pillow's module `Image`; a `UsageError` if it is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("decoding images needs Pillow; run: pip install pillow") from error
    return Image


def pillow_version() -> str:
    """Return the decoder's name and version, for the manifest: decoders of JPEG differ in rounding."""
    return f"Pillow {pillow().__version__}"


def formats() -> list[str]:
    """Return the formats that Pillow reads by itself, without starting another program."""
    image = pillow()
    image.init()
    return sorted(set(image.ID) - _UNSAFE)


def suffixes() -> frozenset[str]:
    """Return the file name suffixes of `formats` in lower case, such as ".png"."""
    readable = set(formats())
    return frozenset(s for s, f in pillow().registered_extensions().items() if f in readable)


def not_read(names: Sequence[str]) -> str:
    """Return the line about files that are skipped because of their suffixes."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without a suffix" for name in names)
    kinds = ", ".join(f"{count:,} {printable(suffix)}" for suffix, count in counts.most_common(5))
    return (
        f"files of no image format that is read here: {len(names):,} skipped ({kinds}"
        f"{', …' if len(counts) > 5 else ''}), such as {printable(names[0])}"
    )


@contextmanager
def opened(name: str, content: bytes, allowed: Sequence[str]) -> Iterator[Any]:
    """Yield the opened Pillow image; any failure, also of what the caller does with it, is a `BadImage`.

    Parameters
    ----------
    name : str
        What messages call the file.
    allowed : sequence of str
        Pillow's names of the formats to try.
    """
    try:
        with pillow().open(io.BytesIO(content), formats=allowed) as image:
            width, height = image.size
            if width * height > LARGEST_IMAGE:
                raise BadImage(
                    f"{printable(name)}: {width} x {height} pixels; the limit is {LARGEST_IMAGE:,}, resize it"
                )
            yield image
    except (UsageError, MemoryError):
        raise
    except (pillow().DecompressionBombError, pillow().DecompressionBombWarning) as error:
        raise BadImage(
            f"{printable(name)}: more than {LARGEST_IMAGE:,} pixels, the limit; resize it"
        ) from error
    except pillow().UnidentifiedImageError as error:
        raise BadImage(f"{printable(name)}: not an image of a format that is read here") from error
    except Exception as error:
        raise BadImage(f"{printable(name)}: cannot be decoded ({reason(error)})") from error


def convert(name: str, content: bytes, how: Conversion, allowed: Sequence[str]) -> Pixels:
    """Return the pixels (height, width, channels) uint8 of an image file.

    The first frame of an animation; transparent parts on white; 16-bit grey divided by 257 and rounded.

    Raises
    ------
    BadImage
        Truncated, damaged, too large, not of an allowed format, or with pixels of no agreed scale
        (floating point, 32-bit integers).
    """
    image_module = pillow()
    from PIL import ImageOps

    with opened(name, content, allowed) as image:
        image.load()
        eight_bit = _eight_bit(name, image.format, ImageOps.exif_transpose(image) if how.upright else image)
        plain = _on_white(eight_bit).convert("L" if how.channels == 1 else "RGB")
        size = (how.width, how.height)
        if plain.size != size:
            resampling = image_module.Resampling[how.filter.upper()]
            plain = ImageOps.fit(plain, size, resampling) if how.crop else plain.resize(size, resampling)
        return np.asarray(plain, np.uint8).reshape(how.height, how.width, how.channels)


def _eight_bit(name: str, kind: str, image: Any) -> Any:
    """Return an image of 16-bit grey as one of 8 bits, transparent parts white; every other as it is."""
    if image.mode == "F":
        raise BadImage(f"{printable(name)}: floating point pixels have no agreed scale; save it with 8 bits")
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and kind not in _SIXTEEN_BITS:
        raise BadImage(
            f"{printable(name)}: 32-bit or signed pixels have no agreed scale; save it with 8 or 16 bits"
        )
    values = np.asarray(image).astype(np.int32)
    values[values == image.info.get("transparency", -1)] = 65535
    return pillow().fromarray(((values + 128) // 257).astype(np.uint8))


def _on_white(image: Any) -> Any:
    """Return the image, and if parts of it are transparent, the image on a white ground."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return pillow().alpha_composite(pillow().new("RGBA", image.size, "white"), image)


def decode_all(
    files: Iterable[tuple[Key, bytes]], decode: Callable[[Key, bytes], Pixels]
) -> Iterator[list[tuple[Key, Pixels | BadImage]]]:
    """Yield batches of decoded files in the order of `files`: their pixels, or why there are none.

    Threads do the work, one per core: Pillow decodes outside the interpreter's lock.  At most
    three batches per core are held at once.
    """

    def work(batch: list[tuple[Key, bytes]]) -> list[tuple[Key, Pixels | BadImage]]:
        return [(key, _attempt(decode, key, content)) for key, content in batch]

    threads = cores()
    waiting: deque[Future[list[tuple[Key, Pixels | BadImage]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with _bombs_are_errors():
            for batch in _batches(files):
                waiting.append(pool.submit(work, batch))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(files: Iterable[tuple[Key, bytes]]) -> Iterator[list[tuple[Key, bytes]]]:
    batch, size = [], 0
    for key, content in files:
        batch.append((key, content))
        size += len(content)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _attempt(decode: Callable[[Key, bytes], Pixels], key: Key, content: bytes) -> Pixels | BadImage:
    try:
        return decode(key, content)
    except BadImage as bad:
        return bad


@contextmanager
def _bombs_are_errors() -> Iterator[None]:
    """Make Pillow refuse a very large image instead of warning; ignore its remarks on odd metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", pillow().DecompressionBombWarning)
        yield
