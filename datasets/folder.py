"""A folder with one folder of images a class, either directly or below train/, val/ and test/."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import Images, Source, stratified_split
from datasets.resize import square

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MAX_PIXELS = 50_000_000  # a few kilobytes of PNG can claim far more: a decompression bomb
MAX_NATIVE_SIZE = 224
TEST_FRACTION = 0.2  # of a folder without test/; the same for every seed


def read(root: Path, image_size: int | None, fit: Callable[[int], int]) -> Source:
    parts = {part: root / part for part in ("train", "val", "test") if (root / part).is_dir()}
    train_root = parts.get("train", root)
    classes = _classes(train_root)
    files, labels = _listing(train_root, classes)
    size = image_size or fit(_native_size(files))
    if "test" in parts:
        test = partial(_part, parts["test"], classes, size)
    else:
        kept, held_out = stratified_split(labels, TEST_FRACTION, 0, classes)
        test = partial(_decode, [files[i] for i in held_out], labels[held_out], size)
        files, labels = [files[i] for i in kept], labels[kept]
    val = _part(parts["val"], classes, size) if "val" in parts else None
    return Source(train=_decode(files, labels, size), val=val, test=test, classes=classes)


def _part(root: Path, classes: tuple[str, ...], size: int) -> Images:
    if _classes(root) != classes:
        difference = ", ".join(sorted(set(_classes(root)) ^ set(classes)))
        raise ValueError(f"{root} has other class folders than train: {difference}; make them the same")
    return _decode(*_listing(root, classes), size)


def _classes(root: Path) -> tuple[str, ...]:
    classes = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        raise ValueError(f"{root} needs at least two class folders with images, found {found}")
    return classes


def _listing(root: Path, classes: tuple[str, ...]) -> tuple[list[Path], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not members:
            raise ValueError(f"{root / name} holds no images ({', '.join(sorted(SUFFIXES))}); fill or remove it")
        files += members
        labels += [label] * len(members)
    return files, np.array(labels, dtype=np.int64)


def _native_size(files: list[Path]) -> int:
    """The median shorter side of up to a hundred images, capped."""
    sample = files[:: max(len(files) // 100, 1)]
    sides = []
    for path in sample:
        with _open(path) as image:
            sides.append(min(image.size))
    return min(int(np.median(sides)), MAX_NATIVE_SIZE)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=["JPEG", "PNG", "BMP", "WEBP"]) as image:
            if image.width * image.height > MAX_PIXELS:
                claim = f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}"
                raise ValueError(f"{path} claims {claim}; remove it")
            yield image
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the image {path} ({type(error).__name__}); mend or remove it") from error


def _decode(files: list[Path], labels: np.ndarray[tuple[int], np.dtype[np.int64]], size: int) -> Images:
    images = np.empty((len(files), 3, size, size), np.uint8)
    for index, path in enumerate(files):
        with _open(path) as image:
            images[index] = np.asarray(square(image.convert("RGB"), size)).transpose(2, 0, 1)
    return Images(images=images, labels=labels)
