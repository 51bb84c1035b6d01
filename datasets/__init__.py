"""Image sets by name: `names()` lists them, `load()` reads one, a folder or a CSV file, into `Splits`.

Nothing here imports torch; every image is decoded and resized once per machine, into a store that all trials share.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets import decode, store
from datasets.images import Images, Splits, Task, in_memory
from datasets.source import Listed, Part, Source
from datasets.splits import stratified_split
from datasets.stream import Streamed

__all__ = ["Found", "Images", "Splits", "Task", "check", "find", "in_memory", "load", "names", "stratified_split"]

STORE_SHARE = 0.5  # of free disk and memory that decoded images may take
SOURCES = {  # name -> the module here whose read(root, name) gives a Source
    "cifar10": "cifar",
    "cifar100": "cifar",
    "digits": "digits",
    "emnist_balanced": "mnist",
    "emnist_letters": "mnist",
    "fashion_mnist": "mnist",
    "imagenet": "imagenet",
    "imagenette": "imagenette",
    "imagenette_160": "imagenette",
    "imagenette_320": "imagenette",
    "kmnist": "mnist",
    "mnist": "mnist",
    "qmnist": "mnist",
    "svhn": "svhn",
    "voc2012": "voc",
}


def names() -> list[str]:
    """Every data set with a name; a path to a folder of class folders, or to a CSV file, is one too."""
    return sorted(SOURCES)


def check(name: str, root: str | Path) -> str:
    """The module that reads `name`; a `ValueError` that lists the known names if it is neither known nor a path."""
    if name in SOURCES:
        return SOURCES[name]
    path = _path(name, root)
    if path and (path.is_dir() or path.suffix.lower() == ".csv"):
        return "folder" if path.is_dir() else "table"
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"unknown data set {name!r}, and no folder or .csv file of that name here or in {root}; {hint}"
        f"known: {', '.join(names())}, or the path of a folder of class folders or of a .csv file"
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
    store_share: float = STORE_SHARE,
) -> Splits:
    """The data set `name`, or the folder or CSV file of that path, split for a study.

    `image_size` is the side in pixels (None: what `fit` makes of the set's own). The validation set is a seeded,
    stratified `val_fraction` of train unless the source has one of its own; the test set does not depend on the seed.
    `train_images` keeps about as many of train, seeded and stratified, after the validation set was taken from it.
    Image files that take more than `store_share` of free disk or memory are not kept decoded.

    Raises:
        ValueError: an unknown name, or files that are not what the set should hold.
        ConnectionError: the set is not there and could not be downloaded.
    """
    found = replace(find(name, root), store_share=store_share)
    source = found.source
    size = image_size or fit(source.native_size or decode.typical_side(_listed(source.train).files))
    opened = _open(found, "train", size)
    train = opened.images
    if source.val:
        val = _again(found, "val", size)
    else:
        kept, held_out = stratified_split(train.labels, val_fraction, seed, source.classes)
        train, val = train.take(kept), train.take(held_out)
    if train_images is not None and train_images < len(train):
        train = train.take(stratified_split(train.labels, train_images / len(train), seed, source.classes)[1])
    mean, std = _statistics(opened.moments[train.rows])
    return Splits(
        name=found.name,
        train=train,
        val=val,
        classes=source.classes,
        mean=mean,
        std=std,
        read_test=partial(_again, found, "test", size),
        task=source.task,
    )


@dataclass(frozen=True)
class Found:
    """Which data set, and where: all that another process needs to read it too."""

    module: str
    name: str
    path: Path
    store_share: float = STORE_SHARE

    @cached_property
    def source(self) -> Source:
        source: Source = importlib.import_module(f"datasets.{self.module}").read(self.path, self.name)
        return source

    def store_name(self, which: str) -> str:
        """Tells a part of this set from those of others that have the same name elsewhere."""
        place = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', self.name)}-{which}-{place}"

    def __reduce__(self) -> tuple[object, ...]:
        return Found, (self.module, self.name, self.path, self.store_share)  # not the lists of files


def find(name: str, root: str | Path) -> Found:
    """Where the data set `name` lies; nothing is read yet. Raises the `ValueError` of `check`."""
    module = check(name, root)
    path = _path(name, root)
    if path is None:
        return Found(module, name, Path(root).absolute())
    resolved = path.resolve()
    return Found(module, resolved.name if resolved.is_dir() else resolved.stem, path.absolute())


@dataclass(frozen=True)
class _Opened:
    images: Images
    moments: NDArray[np.float32]  # (M, C, 2) of all rows of the array


def _open(found: Found, which: str, size: int) -> _Opened:
    part: Part = getattr(found.source, which)
    again = partial(_again, found, which, size)
    try:
        stored = store.opened(part, size, found.store_name(which), found.store_share)
    except store.TooLarge as error:
        listed = _listed(part)
        streamed = Streamed(listed.files, size, whole=listed.whole)
        images = Images(
            pixels=streamed,
            rows=np.arange(len(listed.files)),
            labels=listed.labels,
            digest=hashlib.sha256("\0".join(map(str, listed.files)).encode()).hexdigest(),
            again=again,
            notes=(f"{which}: {error}, so they are decoded anew in each epoch",),
        )
        return _Opened(images, streamed.moments())
    images = Images(
        pixels=stored.pixels,
        rows=stored.rows,
        labels=stored.labels,
        digest=stored.digest,
        again=again,
        notes=_left_out(which, stored),
    )
    return _Opened(images, stored.moments)


def _left_out(which: str, stored: store.Stored) -> tuple[str, ...]:
    if not stored.unreadable:
        return ()
    counts = f"{len(stored.unreadable):,} of {len(stored.pixels):,}"
    return (f"{which}: {counts} images are left out, such as: {stored.unreadable[0]}",)


def _again(found: Found, which: str, size: int) -> Images:
    return _open(found, which, size).images


def _listed(part: Part) -> Listed:
    assert isinstance(part, Listed), "packed images have one size, and room"
    return part


def _statistics(moments: NDArray[np.float32]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of pixels scaled to [0, 1]."""
    mean, squares = np.nanmean(moments.astype(np.float64), axis=0).T
    std = np.sqrt(np.maximum(squares - np.square(mean), 1.0))
    return tuple(float(m) / 255 for m in mean), tuple(float(s) / 255 for s in std)


def _path(name: str, root: str | Path) -> Path | None:
    if name in SOURCES:
        return None
    return next((path for path in (Path(name), Path(root) / name) if path.exists()), None)
