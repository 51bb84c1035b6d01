"""CIFAR-10 and CIFAR-100: 60,000 photographs of 32x32 pixels (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.download import Download, find, found_or_fetched
from datasets.layout import Layout
from datasets.source import Labels, Packed, Pixels, Source

CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": (
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
        "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee",
        "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
        "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower",
        "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
        "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate",
        "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark",
        "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower",
        "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train", "trout", "tulip",
        "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    ),
}  # fmt: skip


def read(root: Path, name: str) -> Source:
    return source(root, name, _kind(name))


def layout(name: str) -> Layout:
    return _layout(name, _kind(name))


def source(root: Path, name: str, kind: Any) -> Source:
    """The set that torchvision's class `kind` knows the files and checksums of."""
    look = partial(find, root, _layout(name, kind))
    download = Download(
        title=name.replace("cifar", "CIFAR-"),
        get=partial(kind, download=True),
        makes=(kind.base_folder,),
        by_hand=f"{kind.filename}, or the folder {kind.base_folder} that it holds,",
        archive=kind.filename,
        md5=kind.tgz_md5,
    )
    paths = found_or_fetched(root, look, download)
    train, test = (Packed(files=paths, read=partial(_part, kind, paths[0].parent, train)) for train in (True, False))
    return Source(train=train, test=test, classes=CLASSES[name], native_size=32)


def _kind(name: str) -> Any:
    from torchvision.datasets import CIFAR10, CIFAR100

    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def _layout(name: str, kind: Any) -> Layout:
    folders = (kind.base_folder, f"{name}/{kind.base_folder}", name, ".")
    return Layout(folders=folders, files=tuple(_checksums(kind)), archive=kind.filename)


def _checksums(kind: Any) -> dict[str, str]:
    """md5 by name of file."""
    return {**dict(kind.train_list), **dict(kind.test_list), kind.meta["filename"]: kind.meta["md5"]}


def _part(kind: Any, folder: Path, train: bool) -> tuple[Pixels, Labels]:
    from torchvision.datasets.utils import check_integrity

    for name, md5 in _checksums(kind).items():  # pickles: nothing is loaded before torchvision's checksums fit
        if not check_integrity(folder / name, md5):
            raise ValueError(f"{folder / name} is damaged (its md5 is not {md5}); unpack {kind.filename} again")
    here = type(kind.__name__, (kind,), {"base_folder": ""})  # `folder` itself, whatever its name
    found = here(folder, train=train)
    return np.ascontiguousarray(found.data), np.array(found.targets, np.int64)
