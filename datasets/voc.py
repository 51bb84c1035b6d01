"""PASCAL VOC 2012: 11,540 photographs, each with one or more of twenty kinds of objects (http://host.robots.ox.ac.uk)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from datasets.download import Download, find, found_or_fetched
from datasets.layout import Layout
from datasets.source import Listed, Source

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
FOLDERS = ("VOCdevkit/VOC2012", "VOC2012", "voc2012/VOCdevkit/VOC2012", "voc2012/VOC2012", "voc2012", ".")
LISTS = ("ImageSets/Main/train.txt", "ImageSets/Main/val.txt")
IMAGE_ID = re.compile(r"20\d\d_\d{6}")  # of 2007's images, not so


def read(root: Path, name: str) -> Source:
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    return source(root, DATASET_YEAR_DICT["2012"])


def layout(name: str) -> Layout:
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    return _layout(DATASET_YEAR_DICT["2012"])


def source(root: Path, archive: Mapping[str, str]) -> Source:
    """Of torchvision's entry `archive` (url, filename, md5). Our test part is val: the true one's labels are secret."""
    download = Download(
        title="PASCAL VOC 2012",
        get=partial(_get, dict(archive)),
        makes=("VOCdevkit/VOC2012",),
        by_hand=f"{archive['filename']}, or the folder VOCdevkit that it holds,",
        archive=archive["filename"],
        md5=archive["md5"],
    )
    train, test = found_or_fetched(root, partial(find, root, _layout(archive)), download)
    train_ids, test_ids = _ids(train), _ids(test)
    if both := sorted(set(train_ids) & set(test_ids)):
        raise ValueError(f"{train} and {test.name} both list {both[0]}; unpack {archive['filename']} again")
    place = train.parents[2]
    return Source(train=_part(place, train_ids), test=_part(place, test_ids), classes=CLASSES, task="multi")


def _layout(archive: Mapping[str, str]) -> Layout:
    return Layout(folders=FOLDERS, files=LISTS, parts=("JPEGImages", "Annotations"), archive=archive["filename"])


def _get(archive: Mapping[str, str], folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(archive["url"], str(folder), filename=archive["filename"], md5=archive["md5"])


def _ids(path: Path) -> list[str]:
    try:
        ids = path.read_text(encoding="utf-8", errors="replace").split()
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror})") from error
    wrong = next((image_id for image_id in ids if not IMAGE_ID.fullmatch(image_id)), None)
    if wrong is not None or not ids:
        found = f"names {wrong!r}" if wrong is not None else "is empty"
        raise ValueError(f"{path} {found}, but should list images of VOC 2012 like 2008_000008, one a line; replace it")
    return ids


def _part(place: Path, ids: Sequence[str]) -> Listed:
    files = tuple(place / "JPEGImages" / f"{image_id}.jpg" for image_id in ids)
    missing = [path for path in files if not os.path.isfile(path)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(files)} images are missing, the first is {missing[0]}; put them there"
        )
    labels = np.stack([_labels(place / "Annotations" / f"{image_id}.xml") for image_id in ids])
    return Listed(files=files, labels=labels, whole=True)


def _labels(path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(20,): 1 for a class with an object, -1 if all of its objects are hard to recognise, 0 for one without."""
    labels = np.zeros(len(CLASSES), np.int64)
    for item in _annotation(path).findall("object"):
        name, difficult = (item.findtext(tag, default).strip() for tag, default in (("name", ""), ("difficult", "0")))
        if name not in CLASSES or difficult not in ("0", "1"):
            raise ValueError(f"{path} has an object {name!r} with difficult {difficult!r}, which VOC 2012 has not")
        label = CLASSES.index(name)
        if difficult == "0":
            labels[label] = 1
        elif labels[label] == 0:
            labels[label] = -1
    return labels


def _annotation(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); every listed image needs it") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings that expat has not
        raise ValueError(f"{path} is not well-formed XML ({error}); replace it") from error
    if root.tag != "annotation":
        raise ValueError(f"{path} is no annotation of VOC but <{root.tag}>; replace it")
    return root
