"""Image files to uint8 squares: every format and oddity has one outcome, an image or a reason why there is none."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets.source import Pixels

VERSION = 1  # of what an image becomes; another one makes stores anew
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
MAX_PIXELS = 50_000_000  # a few kilobytes of PNG can claim far more: a decompression bomb
MAX_NATIVE_SIZE = 224
MAX_GRAY = 2**16 - 1
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")  # Pillow's modes of more than 8 bits
SAMPLE = 100  # images whose sizes tell that of the set


class Unreadable(ValueError):
    """A file that gives no image; the message says why."""


def read_square(path: Path, size: int, *, whole: bool = False) -> Pixels:
    """The image in a file as (3, size, size): its central square, or all of it squeezed into one.

    Whatever the name says, the content decides. Turned as its EXIF tag says, the first frame of several, transparent
    parts on white, 16 bits scaled to 8.

    Raises:
        Unreadable: no image of `FORMATS`, cut short, too large, or with pixels that are no colours.
    """
    with _opened(path) as image:
        image.draft("RGB", (2 * size, 2 * size))  # lets JPEG skip detail that the resizing would drop anyway
        return _channels_first(square(_upright_rgb(image, path), size, whole=whole))


def check_header(path: Path) -> tuple[int, int]:
    """Width and height, without decoding; raises `Unreadable` for what cannot be an image."""
    with _opened(path) as image:
        return image.size


def typical_side(files: Sequence[Path]) -> int:
    """The median shorter side of up to a hundred images, capped.

    Raises:
        ValueError: not one of them is an image.
    """
    sides, reason = [], ""
    for path in files[:: max(len(files) // SAMPLE, 1)]:
        try:
            sides.append(min(check_header(path)))
        except Unreadable as error:
            reason = reason or str(error)
    if not sides:
        raise ValueError(f"there is no image to be read; the first of {len(files):,} files: {reason}")
    return min(int(np.median(sides)), MAX_NATIVE_SIZE)


def square(image: Image.Image, size: int, *, whole: bool = False) -> Image.Image:
    """The central square of `image` at `size` pixels a side, with all of the shorter side; or all of both sides."""
    width, height = (image.width, image.height) if whole else (min(image.size), min(image.size))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if (image.width, image.height) == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


def resize(image: Pixels, size: int) -> Pixels:
    """A decoded image (H, W) or (H, W, 3) -> (1 or 3, size, size)."""
    return _channels_first(square(Image.fromarray(image), size))


def moments(image: Pixels) -> NDArray[np.float32]:
    """(C, 2): mean of each channel, and of its squares."""
    values = image.reshape(len(image), -1).astype(np.float32)
    return np.stack([values.mean(1), np.square(values).mean(1)], 1)


def in_threads(work: Callable[[int], None], count: int, progress: Callable[[int], None]) -> None:
    """`work(0)` to `work(count - 1)` on all cores, which Pillow's decoding in C leaves free of Python's lock."""
    chunk = 64

    def chunks(start: int) -> int:
        stop = min(start + chunk, count)
        for index in range(start, stop):
            work(index)
        return stop - start

    pool = ThreadPoolExecutor(cores())
    try:
        for done in pool.map(chunks, range(0, count, chunk)):
            progress(done)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C ends it after the chunks under way


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header was read and found sane; what goes wrong with it inside of the block is `Unreadable`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the cap below is lower
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Unreadable(f"{path} claims {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
                yield image
    except UnidentifiedImageError as error:
        raise Unreadable(f"{path} is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for broken chunks of PNG
        raise Unreadable(f"{path} is damaged ({' '.join(str(error).split()) or type(error).__name__})") from error


def _upright_rgb(image: Image.Image, path: Path) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP:
        image = _eight_bits(image, path)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Gray of 16 bits scaled to 8, where Pillow's own conversion would cut all above 255 off."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > MAX_GRAY:
        raise Unreadable(f"{path} has pixels of {low:g} to {high:g}; save it with 8 or 16 bits")
    return Image.fromarray((values // 257).astype(np.uint8))


def _channels_first(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
