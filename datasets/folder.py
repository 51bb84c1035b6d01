"""A folder with one folder of images a class, either directly or below train/, val/ and test/."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from datasets.source import Labels, Listed, Source
from datasets.splits import TEST_FRACTION, stratified_split

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
PARTS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}


def read(root: Path, name: str) -> Source:
    parts = _parts(root)
    train_root = parts.get("train", root)
    classes = class_folders(train_root)
    train = part(train_root, classes)
    val = part(parts["val"], classes) if "val" in parts else None
    if "test" in parts:
        return Source(train=train, val=val, test=part(parts["test"], classes), classes=classes)
    kept, held_out = stratified_split(train.labels, TEST_FRACTION, 0, classes)
    return Source(train=_take(train, kept), val=val, test=_take(train, held_out), classes=classes)


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of the folders in `root`, sorted, hidden ones left out; a `ValueError` if they are fewer than two."""
    classes = tuple(sorted(entry.name for entry in entries(root) if entry.is_dir()))
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        raise ValueError(f"{root} needs at least two class folders with images, found {found}")
    return classes


def part(root: Path, classes: Sequence[str]) -> Listed:
    """The images in the class folders of `root`, at any depth, class by class and sorted.

    Raises:
        ValueError: other class folders than `classes`, one without images, or soft links to nothing or in a circle.
    """
    found = class_folders(root)
    if difference := sorted(set(found) ^ set(classes)):
        raise ValueError(f"{root} has other class folders than train: {', '.join(difference)}; make them the same")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = [Path(path) for path in _images(root / name, (os.path.realpath(root),))]
        if not members:
            raise ValueError(f"{root / name} holds no images ({', '.join(SUFFIXES)}); fill or remove it")
        files += members
        labels += [label] * len(members)
    return Listed(files=tuple(files), labels=np.array(labels, np.int64))


def _parts(root: Path) -> dict[str, Path]:
    """The ready splits: folders of such a name with folders in them, so that a class may be called train too."""
    found: dict[str, Path] = {}
    for which, names in PARTS.items():
        for name in names:
            path = root / name
            if os.path.isdir(path) and any(entry.is_dir() for entry in entries(path)):
                if which in found:
                    raise ValueError(f"{root} has both {found[which].name}/ and {name}/; keep one")
                found[which] = path
    if found and "train" not in found:
        raise ValueError(f"{root} has {next(iter(found.values())).name}/ but no train/ with class folders; add it")
    places = {os.path.realpath(path): path.name for path in found.values()}
    if len(places) < len(found):
        raise ValueError(f"{root}: two of {', '.join(path.name for path in found.values())} are the same folder")
    return found


def _images(folder: Path | str, above: tuple[str, ...]) -> Iterator[str]:
    """Strings, and no `stat` but for links: a million files are listed in seconds."""
    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"{folder} is a soft link to a folder that it lies in; remove it")
    for entry in entries(folder):
        if entry.is_dir():
            yield from _images(entry.path, (*above, real))
        elif entry.name.lower().endswith(SUFFIXES):
            if not entry.is_file():
                raise ValueError(f"{entry.path} is no file, perhaps a soft link to nothing; mend or remove it")
            yield entry.path


def entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, hidden things left out; a `ValueError` if it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"cannot list {folder} ({error.strerror}); name a folder that can be read") from error


def _take(listed: Listed, indices: Labels) -> Listed:
    return Listed(files=tuple(listed.files[index] for index in indices), labels=listed.labels[indices])
