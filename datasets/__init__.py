"""Image sets by name: `names()` lists them, `load()` reads one, a folder or a CSV file, into `Splits`.

Nothing here imports torch; every image is decoded and resized once per machine, into a store that all trials share.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from datasets import decode, object_store, remote, store
from datasets.images import Images, Splits, Task, in_memory
from datasets.object_store import is_address
from datasets.source import Listed, Part, Source
from datasets.splits import stratified_split
from datasets.stream import Streamed

__all__ = ["Found", "Images", "Splits", "Task", "check", "find", "in_memory", "load", "names", "stratified_split"]

STORE_SHARE = 0.5  # of free disk and memory that decoded images may take
BUNDLED = ("digits",)  # comes with a package, wherever other sets lie
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
    """The module that reads `name`, without a look at what lies at an address.

    Raises:
        ValueError: it is no known name, path or address of an object store; lists the known names.
    """
    if is_address(str(root)):
        object_store.parsed(str(root))
    if name in SOURCES:
        return SOURCES[name]
    if is_address(name):
        return "table" if remote.is_table(name) else "folder"
    path = _path(name, root)
    if path and (path.is_dir() or path.suffix.lower() == ".csv"):
        return "folder" if path.is_dir() else "table"
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    elsewhere = "" if is_address(str(root)) else f" or in {root}"
    raise ValueError(
        f"unknown data set {name!r}, and no folder or .csv file of that name here{elsewhere}; {hint}"
        f"known: {', '.join(names())}, or the path or s3:// address of a folder of class folders or of a .csv file"
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
    """Which data set, and where: all that a process needs to read it too, on this machine or another."""

    module: str
    name: str
    place: str  # an absolute path or an address
    store_share: float = STORE_SHARE
    digest: str | None = None  # of what another process found at the address; None: whatever lies there now

    @cached_property
    def source(self) -> Source:
        source: Source = self._reader.read(self.path, self.name)
        return source

    @property
    def path(self) -> Path:
        """On this machine; what lies at an address is fetched first."""
        return self.copy.path if self.copy else Path(self.place)

    @cached_property
    def copy(self) -> remote.Copy | None:
        """Of what lies at an address, made at the first use."""
        if not is_address(self.place):
            return None
        title, named = _filename(self.name), self.name in SOURCES
        return remote.fetched(self.place, title, self._reader.layout(self.name) if named else None, self.digest)

    @property
    def _reader(self) -> ModuleType:
        return importlib.import_module(f"datasets.{self.module}")

    def store_name(self, which: str) -> str:
        """Tells a part of this set from those of others that have the same name elsewhere."""
        place = self.place if is_address(self.place) else str(Path(self.place).resolve())
        return f"{_filename(self.name)}-{which}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    def names(self, files: Sequence[Path]) -> list[str]:
        """Files by their path below the data set, which is the same on all machines."""
        root = self.path if self.path.is_dir() else self.path.parent
        return [str(file).removeprefix(f"{root}/") for file in files]

    def __reduce__(self) -> tuple[object, ...]:
        known = self.__dict__.get("copy")
        digest = known.digest if known else self.digest
        return Found, (self.module, self.name, self.place, self.store_share, digest)  # not the lists of files


def find(name: str, root: str | Path) -> Found:
    """Where the data set `name` lies; nothing is read yet. Raises the `ValueError` of `check`."""
    module = check(name, root)
    if is_address(name):
        return Found(module, title(name), name)
    path = _path(name, root)
    if path is None:
        elsewhere = is_address(str(root)) and name not in BUNDLED
        return Found(module, name, str(root) if elsewhere else str(Path(root).absolute()))
    resolved = path.resolve()
    return Found(module, resolved.name if resolved.is_dir() else resolved.stem, str(path.absolute()))


def title(name: str) -> str:
    """How a data set is called by its name, path or address."""
    if not is_address(name):
        return Path(name).resolve().name
    last = object_store.parsed(name).name
    return last[:-4] if remote.is_table(name) else last


def anchored(place: str) -> str:
    """A path made absolute, so that it means the same in every folder; an address is left as it is."""
    return place if is_address(place) else str(Path(place).absolute())


@dataclass(frozen=True)
class _Opened:
    images: Images
    moments: NDArray[np.float32]  # (M, C, 2) of all rows of the array


def _open(found: Found, which: str, size: int) -> _Opened:
    part: Part = getattr(found.source, which)
    try:
        stored = store.opened(part, size, found.store_name(which), found.store_share)
    except store.TooLarge as error:
        images = _streamed(found, which, size)
        assert isinstance(images.pixels, Streamed)
        note = f"{which}: {error}, so they are decoded anew in each epoch"
        return _Opened(replace(images, notes=(note,)), images.pixels.moments())
    images = Images(
        pixels=stored.pixels,
        rows=stored.rows,
        labels=stored.labels,
        digest=stored.digest,
        again=partial(_again, found, which, size),
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


def _streamed(found: Found, which: str, size: int) -> Images:
    listed = _listed(getattr(found.source, which))
    content = [found.copy.digest if found.copy else "", *found.names(listed.files)]
    return Images(
        pixels=Streamed(listed.files, size, whole=listed.whole),
        rows=np.arange(len(listed.files)),
        labels=listed.labels,
        digest=hashlib.sha256("\0".join(content).encode()).hexdigest(),
        again=partial(_streamed, found, which, size),
    )


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
    roots = [Path(), *([] if is_address(str(root)) else [Path(root)])]
    return next((path for folder in roots if (path := folder / name).exists()), None)


def _filename(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)
