"""What a reader finds: where the images of a data set lie and which labels they have; nothing is decoded yet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# (N,) class numbers; for images of several labels (N, classes) of 1 (has it), 0 (has not) and -1 (not to be counted)
Labels = NDArray[np.int64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Images of one size in a few files."""

    files: tuple[Path, ...]  # all that the content depends on
    # A module's function, whose name and arguments tell the content too: (N, H, W) gray or (N, H, W, 3), and labels.
    read: partial[tuple[Pixels, Labels]]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Images in a file each, of any size and format."""

    files: tuple[Path, ...]
    labels: Labels
    whole: bool = False  # squeeze the whole image into a square, because its labels speak of all of it


Part = Packed | Listed


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as it lies on disk. The parts share no image."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    val: Part | None = None  # None: to be taken from train
    native_size: int | None = None  # side in pixels; None: the images differ
    task: Literal["single", "multi"] = "single"
