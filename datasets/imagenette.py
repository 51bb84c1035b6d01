"""Imagenette: 13,394 photographs of ten easy classes of ImageNet, in three sizes (https://github.com/fastai/imagenette)."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from datasets.download import Download, found_or_fetched
from datasets.folder import class_folders, part
from datasets.layout import Layout
from datasets.source import Source

SIZES = {"imagenette": "full", "imagenette_320": "320px", "imagenette_160": "160px"}  # as torchvision names them


def read(root: Path, name: str) -> Source:
    from torchvision.datasets import Imagenette

    return source(root, name, Imagenette)


def layout(name: str) -> Layout:
    from torchvision.datasets import Imagenette

    return _layout(_folders(Imagenette)[name])


def source(root: Path, name: str, kind: Any) -> Source:
    """The set that torchvision's class `kind` knows the archives, checksums and classes of; its val is our test."""
    folders, md5 = _folders(kind), kind._ARCHIVES[SIZES[name]][1]
    folder = folders[name]
    known = _layout(folder)
    download = Download(
        title=f"Imagenette ({folder})",
        get=partial(kind, size=SIZES[name], download=True),
        makes=(folder,),
        by_hand=f"{known.archive}, or the folder {folder} that it holds,",
        archive=known.archive,
        md5=md5,
    )
    others = {other: theirs for other, theirs in folders.items() if other != name}
    place = found_or_fetched(root, partial(_look, root, folder, others), download)
    wnids = class_folders(place / "train")
    if difference := sorted(set(wnids) ^ set(kind._WNID_TO_CLASS)):
        raise ValueError(f"{place / 'train'} has not the ten class folders of Imagenette: {', '.join(difference)}")
    classes = tuple(kind._WNID_TO_CLASS[wnid][0] for wnid in wnids)
    return Source(train=part(place / "train", wnids), test=part(place / "val", wnids), classes=classes)


def _folders(kind: Any) -> dict[str, str]:
    return {name: Path(kind._ARCHIVES[size][0]).stem for name, size in SIZES.items()}


def _layout(folder: str) -> Layout:
    folders = (folder, f"imagenette/{folder}", ".")
    return Layout(folders=folders, parts=("train", "val"), archive=f"{folder}.tgz")


def _look(root: Path, folder: str, others: dict[str, str]) -> Path | None:
    known = _layout(folder)
    for place in (root / name for name in known.folders):
        if all(os.path.isdir(place / which) for which in known.parts):
            for other, theirs in others.items():
                if place.resolve().name == theirs:
                    raise ValueError(f"{place} is {theirs}, not {folder}; ask for {other}, or give another --data-dir")
            return place
    return None
