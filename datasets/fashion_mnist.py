"""Fashion-MNIST: 70,000 photographs of clothing, 28x28 gray (https://arxiv.org/abs/1708.07747)."""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray

from datasets import Images, Source
from datasets.resize import resize_gray

NATIVE_SIZE = 28
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DEBIAN = "dataset-fashion-mnist"  # a package that puts the same four files into /usr/share/datasets/fashion-mnist
LAYOUTS = (".", "fashion-mnist", "fashion_mnist", "FashionMNIST/raw")  # the last is torchvision's


def read(root: Path, image_size: int | None, fit: Callable[[int], int]) -> Source:
    folder = _find(root) or _download(root)
    size = image_size or fit(NATIVE_SIZE)
    return Source(train=_part(folder, "train", size), test=partial(_part, folder, "t10k", size), classes=CLASSES)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes (format: the MNIST page), gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); replace it") from error
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes; replace it")
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    start = 4 + 4 * content[3]
    if len(content) - start != shape.prod(dtype=np.int64):
        raise ValueError(
            f"{path} is truncated: {len(content) - start} bytes of {shape.prod(dtype=np.int64)}; replace it"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(root: Path) -> Path | None:
    for layout in LAYOUTS:
        if _file(root / layout, "train-images-idx3-ubyte"):
            return root / layout
    return None


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _part(folder: Path, part: str, size: int) -> Images:
    arrays = []
    for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        path = _file(folder, name)
        if path is None:
            raise ValueError(f"{folder} has no {name}.gz; all four files of Fashion-MNIST must lie there")
        arrays.append(read_idx(path))
    images, labels = arrays
    if len(images) != len(labels) or labels.max() >= len(CLASSES):
        raise ValueError(
            f"{folder}: {len(images)} images do not match {len(labels)} labels of 0 to 9; replace the files"
        )
    return Images(images=resize_gray(images, size), labels=labels.astype(np.int64))


def _download(root: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(root, train=True, download=True)
    except (URLError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConnectionError(
            f"Fashion-MNIST is not in {root} and could not be downloaded ({reason}); put its four .gz files there, "
            f"or on Debian: apt-get install {DEBIAN}, then --data-dir /usr/share/datasets/fashion-mnist"
        ) from error
    return root / LAYOUTS[-1]
