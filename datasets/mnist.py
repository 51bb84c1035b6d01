"""MNIST and the sets made in its image: 28x28 gray, in IDX files (format: http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.download import Download, find, found_or_fetched
from datasets.layout import Layout
from datasets.source import Labels, Packed, Pixels, Source

DIGITS = tuple("0123456789")
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_TYPES: dict[bytes, np.dtype[Any]] = {b"\x00\x00\x08": np.dtype(np.uint8), b"\x00\x00\x0c": np.dtype(">i4")}
EMNIST_ARCHIVE = "gzip.zip"
DEBIAN = "apt-get install dataset-fashion-mnist and --data-dir /usr/share/datasets/fashion-mnist"


@dataclass(frozen=True, kw_only=True)
class Idx:
    """One of the sets: four files, named alike in several of them."""

    title: str
    torchvision: str  # its class there, and the folder that it makes
    classes: tuple[str, ...]
    folder: str  # as people name it
    files: tuple[str, ...] = IDX  # images and labels of train, then of test
    begins: tuple[int, ...] = ()  # the first training labels, which tell sets with the same names of files apart
    first_label: int = 0
    transposed: bool = False
    hint: str = ""


def _emnist(split: str, classes: str, first_label: int) -> Idx:
    return Idx(
        title=f"EMNIST ({split})",
        torchvision="EMNIST",
        classes=tuple(classes),
        folder="emnist",
        files=tuple(
            f"emnist-{split}-{part}-{what}"
            for part in ("train", "test")
            for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ),
        first_label=first_label,
        transposed=True,
    )


LETTERS = "abcdefghijklmnopqrstuvwxyz"
SETS = {
    "mnist": Idx(
        title="MNIST", torchvision="MNIST", classes=DIGITS, folder="mnist", begins=(5, 0, 4, 1, 9, 2, 1, 3, 1, 4)
    ),
    "fashion_mnist": Idx(
        title="Fashion-MNIST",
        torchvision="FashionMNIST",
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        folder="fashion-mnist",
        begins=(9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
        hint=DEBIAN,
    ),
    "kmnist": Idx(
        title="Kuzushiji-MNIST",
        torchvision="KMNIST",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        folder="kmnist",
    ),
    "qmnist": Idx(
        title="QMNIST",
        torchvision="QMNIST",
        classes=DIGITS,
        folder="qmnist",
        files=tuple(
            f"qmnist-{part}-{what}" for part in ("train", "test") for what in ("images-idx3-ubyte", "labels-idx2-int")
        ),
    ),
    # upper and lower case of the same shape are one class
    "emnist_balanced": _emnist("balanced", "".join(DIGITS) + LETTERS.upper() + "abdefghnqrt", 0),
    "emnist_letters": _emnist("letters", LETTERS, 1),
}  # fmt: skip


def read(root: Path, name: str) -> Source:
    chosen = SETS[name]
    paths = find(root, layout(name))
    if paths is None:
        from torchvision import datasets

        paths = fetched(root, name, getattr(datasets, chosen.torchvision))
    images, labels, test_images, test_labels = paths
    return Source(
        train=Packed(files=(images, labels), read=partial(_part, name, images, labels)),
        test=Packed(files=(test_images, test_labels), read=partial(_part, name, test_images, test_labels)),
        classes=chosen.classes,
        native_size=28,
    )


def fetched(root: Path, name: str, kind: Any) -> tuple[Path, ...]:
    """The four files, from where torchvision's class `kind` knows them to be."""
    chosen = SETS[name]
    download = Download(
        title=chosen.title,
        get=partial(_get, kind),
        makes=(f"{kind.__name__}/raw",),
        by_hand="its four .gz files",
        hint=chosen.hint,
    )
    if chosen.torchvision == "EMNIST":
        by_hand = f"{EMNIST_ARCHIVE}, or the folder gzip that it holds,"
        download = replace(download, makes=("gzip",), by_hand=by_hand, archive=EMNIST_ARCHIVE, md5=kind.md5)
    return found_or_fetched(root, partial(find, root, layout(name)), download)


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an IDX file of unsigned bytes or 32-bit integers, gzipped or not.

    Raises:
        ValueError: it is something else, or not all there.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); replace it") from error
    kind = IDX_TYPES.get(content[:3])
    start = 4 + 4 * content[3] if len(content) > 3 else 0
    if kind is None or not 4 < start <= len(content):
        raise ValueError(f"{path} is not an IDX file of bytes or integers; replace it")
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4).tolist()
    expected = int(np.prod(shape, dtype=object)) * kind.itemsize
    if len(content) - start != expected:
        raise ValueError(f"{path} is truncated: {len(content) - start} bytes of {expected}; replace it")
    array: NDArray[Any] = np.frombuffer(content, kind, offset=start).reshape(shape)
    return array


def _part(name: str, images_path: Path, labels_path: Path) -> tuple[Pixels, Labels]:
    chosen = SETS[name]
    images, labels = read_idx(images_path), read_idx(labels_path)
    if labels.ndim == 2:
        labels = labels[:, 0]  # of QMNIST; the others say who wrote it
    labels = labels.astype(np.int64) - chosen.first_label
    if images.ndim != 3 or len(images) != len(labels) or set(labels.tolist()) - set(range(len(chosen.classes))):
        raise ValueError(
            f"{images_path} and {labels_path.name} do not hold as many images as labels of {len(chosen.classes)} "
            f"classes, as {chosen.title} does; replace both"
        )
    _check_not_another(chosen, labels_path, labels[:10].tolist())
    pixels: Pixels = np.ascontiguousarray(images.transpose(0, 2, 1) if chosen.transposed else images)
    return pixels, labels


def _check_not_another(chosen: Idx, path: Path, begin: Sequence[int]) -> None:
    for name, other in SETS.items():
        if other is not chosen and other.files == chosen.files and other.begins == tuple(begin):
            raise ValueError(f"{path} belongs to {other.title}, not to {chosen.title}; ask for {name}, or replace it")


def layout(name: str) -> Layout:
    chosen = SETS[name]
    named = (chosen.torchvision, chosen.folder, chosen.folder.replace("-", "_"))
    below = [f"{folder}/{inner}" for folder in named for inner in ("raw", "gzip", "raw/gzip", ".")]
    archive = EMNIST_ARCHIVE if chosen.torchvision == "EMNIST" else ""
    return Layout(folders=(*below, "raw", "gzip", "."), files=chosen.files, endings=(".gz", ""), archive=archive)


def _get(kind: Any, folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    if hasattr(kind, "splits"):  # EMNIST: its class would unpack all six to 2 GB
        download_and_extract_archive(kind.url, str(folder), filename=EMNIST_ARCHIVE, md5=kind.md5)
        return
    for train in (True, False):
        kind(folder, train=train, download=True)
