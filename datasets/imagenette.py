"""Imagenette: 13,394 photographs of ten easy classes of ImageNet, in three sizes (https://github.com/fastai/imagenette)."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from datasets.download import Download, found_or_fetched
from datasets.folder import class_folders, part
from datasets.source import Source

SIZES = {"imagenette": "full", "imagenette_320": "320px", "imagenette_160": "160px"}  # as torchvision names them


def read(root: Path, name: str) -> Source:
    from torchvision.datasets import Imagenette

    return source(root, name, Imagenette)


def source(root: Path, name: str, kind: Any) -> Source:
    """The set that torchvision's class `kind` knows the archives, checksums and classes of; its val is our test."""
    folders = {size: Path(url).stem for size, (url, _) in kind._ARCHIVES.items()}
    folder, md5 = folders[SIZES[name]], kind._ARCHIVES[SIZES[name]][1]
    download = Download(
        title=f"Imagenette ({folder})",
        get=partial(kind, size=SIZES[name], download=True),
        makes=(folder,),
        by_hand=f"{folder}.tgz, or the folder {folder} that it holds,",
        archive=f"{folder}.tgz",
        md5=md5,
    )
    others = {other: folders[size] for other, size in SIZES.items() if other != name}
    place = found_or_fetched(root, partial(_look, root, folder, others), download)
    wnids = class_folders(place / "train")
    if difference := sorted(set(wnids) ^ set(kind._WNID_TO_CLASS)):
        raise ValueError(f"{place / 'train'} has not the ten class folders of Imagenette: {', '.join(difference)}")
    classes = tuple(kind._WNID_TO_CLASS[wnid][0] for wnid in wnids)
    return Source(train=part(place / "train", wnids), test=part(place / "val", wnids), classes=classes)


def _look(root: Path, folder: str, others: dict[str, str]) -> Path | None:
    for place in (root / folder, root / "imagenette" / folder, root):
        if all(os.path.isdir(place / which) for which in ("train", "val")):
            for other, theirs in others.items():
                if place.resolve().name == theirs:
                    raise ValueError(f"{place} is {theirs}, not {folder}; ask for {other}, or give another --data-dir")
            return place
    return None
