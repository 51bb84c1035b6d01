"""SVHN: 99,289 digits of house numbers, cut out at 32x32 pixels (http://ufldl.stanford.edu/housenumbers)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.download import Download, find, found_or_fetched
from datasets.layout import Layout
from datasets.source import Labels, Packed, Pixels, Source

CLASSES = tuple("0123456789")
SPLITS = ("train", "test")


def read(root: Path, name: str) -> Source:
    from torchvision.datasets import SVHN

    return source(root, SVHN)


def layout(name: str) -> Layout:
    from torchvision.datasets import SVHN

    return _layout(SVHN)


def source(root: Path, kind: Any) -> Source:
    """The set that torchvision's class `kind` knows the files and checksums of."""
    known = _layout(kind)
    look, names = partial(find, root, known), known.files
    download = Download(title="SVHN", get=partial(_get, kind), makes=names, by_hand=" and ".join(names))
    paths = found_or_fetched(root, look, download)
    train, test = (
        Packed(files=(path,), read=partial(_part, kind, path, split)) for path, split in zip(paths, SPLITS, strict=True)
    )
    return Source(train=train, test=test, classes=CLASSES, native_size=32)


def _layout(kind: Any) -> Layout:
    return Layout(folders=("SVHN", "svhn", "."), files=tuple(kind.split_list[split][1] for split in SPLITS))


def _get(kind: Any, folder: Path) -> None:
    for split in SPLITS:
        kind(folder, split=split, download=True)


def _part(kind: Any, path: Path, split: str) -> tuple[Pixels, Labels]:
    from torchvision.datasets.utils import check_integrity

    md5 = kind.split_list[split][2]
    if not check_integrity(path, md5):
        raise ValueError(f"{path} is damaged (its md5 is not {md5}); remove or replace it")
    found = kind(path.parent, split=split)  # (N, 3, H, W); makes the label 10 a 0
    return np.ascontiguousarray(found.data.transpose(0, 2, 3, 1)), found.labels.astype(np.int64)
