"""Splitting a data set by class, the same way for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.source import Labels

Rows = NDArray[np.int64]
TEST_FRACTION = 0.2  # of a set that comes without a test part; the same for every seed


def stratified_split(labels: Labels, fraction: float, seed: int, classes: Sequence[str]) -> tuple[Rows, Rows]:
    """Sorted indices (kept, held out) with `fraction` of each class held out, at least one image and never all.

    Images of several labels are split by the rarest of them; one that is alone in that is kept.

    Raises:
        ValueError: of images with one label each, a class has fewer than two.
    """
    several = labels.ndim == 2
    groups = by_rarest(labels) if several else labels
    rng = np.random.default_rng(seed)
    held_out: list[Rows] = []
    for group in range(len(classes) + several):
        members = np.flatnonzero(groups == group)
        if len(members) < 2 and several:
            continue
        if len(members) < 2:
            count = len(members)
            raise ValueError(f"class {classes[group]!r} has {count} images; a split needs at least 2 of each class")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held_out.append(rng.permutation(members)[:count])
    out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), out), out


def by_rarest(labels: Labels) -> Labels:
    """For rows (N, classes) of 1 where an image has a class: the rarest class of each, `classes` where it has none."""
    present = labels == 1
    frequency = np.where(present, present.sum(0), len(labels) + 1)
    rarest: Labels = np.where(present.any(1), frequency.argmin(1), labels.shape[1])
    return rarest
