"""What there is to know of a data set before a study: counts, equal images, the noise of a score. Pure arithmetic."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from datasets.images import Images
from datasets.source import Labels
from datasets.splits import Rows, by_rarest

Z_95 = 1.96  # standard errors to either side that hold the truth 95 times of 100
TYPICAL_ACCURACY = 0.9
CHUNK = 2**24  # bytes of images in memory at a time


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Images of `later` that are equal, pixel by pixel, to one of `earlier`; both may be the same part."""

    earlier: str
    later: str
    count: int
    relabelled: int  # of these, those with another label than the image they equal
    example: tuple[int, int]  # positions in the two parts


def noise(images: int, accuracy: float = TYPICAL_ACCURACY) -> float:
    """By how much an accuracy taken on so many images is off at most, 95 times of 100; a share, as is `accuracy`."""
    return Z_95 * math.sqrt(accuracy * (1 - accuracy) / images)


def class_counts(labels: Labels, classes: int) -> Rows:
    """How many images each class has."""
    counts = (labels == 1).sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    return counts.astype(np.int64)


def labels_per_image(labels: Labels) -> dict[int, int]:
    """For labels (N, classes): number of labels -> how many images have so many."""
    numbers, images = np.unique((labels == 1).sum(1), return_counts=True)
    return dict(zip(numbers.tolist(), images.tolist(), strict=True))


def of_different_classes(labels: Labels, count: int) -> Rows:
    """Positions of the first image of each class, then of the second of each, up to `count` of them."""
    groups = by_rarest(labels) if labels.ndim == 2 else labels
    by_class = np.argsort(groups, kind="stable")
    ordered = groups[by_class]
    place_in_class = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return by_class[np.lexsort((ordered, place_in_class))[:count]]


def repeats(parts: Mapping[str, Images]) -> list[Repeats]:
    """Equal images inside the first part and between any two, where there are some."""
    first = next(iter(parts))
    hashes = {name: list(image_hashes(part)) for name, part in parts.items()}
    places = {name: _first_places(hashes[name]) for name in parts}
    found = []
    for earlier, later in combinations_with_replacement(parts, 2):
        if earlier == later != first:
            continue
        pairs = [
            (places[earlier][digest], place)
            for place, digest in enumerate(hashes[later])
            if digest in places[earlier] and (earlier, places[earlier][digest]) != (later, place)
        ]
        if pairs:
            left, right = (
                parts[name].labels[list(side)]
                for name, side in zip((earlier, later), zip(*pairs, strict=True), strict=True)
            )
            differ = left != right if left.ndim == 1 else (left != right).any(1)
            found.append(
                Repeats(earlier=earlier, later=later, count=len(pairs), relabelled=int(differ.sum()), example=pairs[0])
            )
    return found


def image_hashes(images: Images) -> Iterator[bytes]:
    """A hash of each image's pixels as they are kept, in order."""
    step = max(CHUNK // math.prod(images.shape[1:]), 1)
    for start in range(0, len(images), step):
        for pixels in images.pixels[images.rows[start : start + step]]:
            yield hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _first_places(hashes: list[bytes]) -> dict[bytes, int]:
    places: dict[bytes, int] = {}
    for place, digest in enumerate(hashes):
        places.setdefault(digest, place)
    return places
