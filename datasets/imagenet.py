"""ImageNet (ILSVRC 2012): 1,281,167 photographs to train on, 50,000 to test, 1,000 classes (https://image-net.org)."""

from __future__ import annotations

import os
from pathlib import Path

from datasets.folder import SUFFIXES, class_folders, entries, part
from datasets.layout import Layout
from datasets.source import Source

FOLDERS = (".", "imagenet", "ImageNet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
PARTS = ("train", "val")
VALPREP = "https://raw.githubusercontent.com/soumith/imagenetloader.torch/master/valprep.sh"


def layout(name: str) -> Layout:
    return Layout(folders=FOLDERS, parts=PARTS)


def read(root: Path, name: str) -> Source:
    """The test part is what ImageNet calls val: the labels of its own test part are secret."""
    places = (root / folder for folder in FOLDERS)
    place = next((p for p in places if all(os.path.isdir(p / which) for which in PARTS)), None)
    if place is None:
        raise ValueError(
            f"{root} has no folders train and val of ImageNet, which may not be downloaded without an account; "
            "unpack ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of https://image-net.org there, "
            "one folder per class"
        )
    _check_sorted(place / "val")
    classes = class_folders(place / "train")
    return Source(train=part(place / "train", classes), test=part(place / "val", classes), classes=classes)


def _check_sorted(val: Path) -> None:
    first = next((entry for entry in entries(val) if entry.name.lower().endswith(SUFFIXES)), None)
    if first:
        raise ValueError(
            f"{val} holds images of all classes side by side, such as {first.name}; sort them into class folders "
            f"by running {VALPREP} in it"
        )
