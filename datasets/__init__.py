"""Image sets by name: `names()` lists them, `load()` reads one, or a folder of class folders, into `Splits`.

Nothing here imports torch; every image is a uint8 array, decoded and resized once.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SOURCES = {  # name -> the module here whose read(root, image_size, fit) gives a Source
    "digits": "digits",
    "fashion_mnist": "fashion_mnist",
}


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images (N, C, H, W) uint8 with their labels (N,) int64; read-only, because trials share them."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.images.flags.writeable = False
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Images:
        """The images at `indices`, copied."""
        return Images(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a reader finds: training images, a way to read the test images, and a validation set if one lies ready."""

    train: Images
    test: Callable[[], Images]
    classes: tuple[str, ...]
    val: Images | None = None


@dataclass(frozen=True)
class Splits:
    """A data set ready for a study. `test` is read at its first use, which only the finals make."""

    name: str
    train: Images
    val: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of the training images scaled to [0, 1]
    std: tuple[float, ...]
    read_test: Callable[[], Images]
    task: Literal["single", "multi"] = "single"

    @cached_property
    def test(self) -> Images:
        """The images that no search may see."""
        return self.read_test()

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[-1])

    @property
    def fingerprint(self) -> str:
        """sha256 over the training and validation images and labels."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            digest.update(np.ascontiguousarray(part.images).data)
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()


def names() -> list[str]:
    """Every data set with a name; a path to a folder of class folders is one too."""
    return sorted(SOURCES)


def check(name: str, root: str | Path) -> str:
    """The module that reads `name`; a `ValueError` that lists the known names if it is neither known nor a folder."""
    if name in SOURCES:
        return SOURCES[name]
    if _folder(name, root):
        return "folder"
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"unknown data set {name!r}, and no folder of that name here or in {root}; {hint}"
        f"known: {', '.join(names())}, or the path of a folder of class folders"
    )


def load(
    name: str,
    *,
    root: str | Path,
    seed: int = 0,
    image_size: int | None = None,
    fit: Callable[[int], int] = lambda size: size,
    val_fraction: float = 0.1,
    train_images: int | None = None,
) -> Splits:
    """The data set `name`, or the folder of class folders of that path, split for a study.

    `image_size` is the side in pixels (None: what `fit` makes of the set's own). The validation set is a seeded,
    stratified `val_fraction` of train unless the source has one of its own; the test set does not depend on the seed.
    `train_images` keeps about as many of train, seeded and stratified, after the validation set was taken from it.

    Raises:
        ValueError: an unknown name, or files that are not what the set should hold.
        ConnectionError: the set is not there and could not be downloaded.
    """
    module = importlib.import_module(f"datasets.{check(name, root)}")
    source: Source = module.read(_folder(name, root) or Path(root), image_size, fit)
    train, val = source.train, source.val
    if val is None:
        kept, held_out = stratified_split(train.labels, val_fraction, seed, source.classes)
        train, val = train.take(kept), train.take(held_out)
    if train_images is not None and train_images < len(train):
        train = train.take(stratified_split(train.labels, train_images / len(train), seed, source.classes)[1])
    pixels = train.images.transpose(1, 0, 2, 3).reshape(train.images.shape[1], -1)
    return Splits(
        name=name if name in SOURCES else Path(name).resolve().name,
        train=train,
        val=val,
        classes=source.classes,
        mean=tuple(float(channel.mean(dtype=np.float64)) / 255 for channel in pixels),
        std=tuple(max(float(channel.std(dtype=np.float64)), 1.0) / 255 for channel in pixels),
        read_test=source.test,
    )


def stratified_split(
    labels: NDArray[np.int64], fraction: float, seed: int, classes: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices (kept, held out) with `fraction` of each class held out, at least one image and never all."""
    rng = np.random.default_rng(seed)
    held_out: list[NDArray[np.int64]] = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise ValueError(f"class {name!r} has {len(members)} images; a split needs at least 2 of each class")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held_out.append(rng.permutation(members)[:count])
    out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), out), out


def _folder(name: str, root: str | Path) -> Path | None:
    if name in SOURCES:
        return None
    return next((path for path in (Path(name), Path(root) / name) if path.is_dir()), None)
