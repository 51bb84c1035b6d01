"""`Images` and `Splits`: what a training reads, shared between trials and processes and never written."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from datasets.source import Labels, Pixels
from datasets.splits import Rows

Task = Literal["single", "multi"]  # one label an image, or any number


class Undecoded(Protocol):
    """Stands for an array (M, C, H, W) whose images are decoded each time that they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Rows) -> Pixels: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Some rows of an array (M, C, H, W) of pixels, with their labels.

    The array is a file that all processes of a machine map into their memory: to pickle `Images` takes its path, and
    `again`, which makes it anew on a machine that has no such file.
    """

    pixels: Pixels | Undecoded
    rows: Rows
    labels: Labels  # of these rows
    digest: str  # sha256 of the whole array, or of what stands for it
    again: Callable[[], Images] | None = None
    notes: tuple[str, ...] = ()  # what a user should know of how they were read

    def __post_init__(self) -> None:
        for array in (self.pixels, self.rows, self.labels):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)"""
        return (len(self), *self.pixels.shape[1:])

    @property
    def images(self) -> Pixels:
        """All of them, copied."""
        return self.pixels[self.rows]

    def take(self, indices: Rows) -> Images:
        """Those at `indices` of this part; the pixels stay where they are."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {**vars(self)}
        path = getattr(self.pixels, "filename", None)
        if self.again is None or path is None:
            return _restored, (fields,)
        return _restored, ({**fields, "pixels": None}, Path(path), self.pixels.shape)


def in_memory(pixels: Pixels, labels: Labels) -> Images:
    """All rows of an array that is in no file."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
    return Images(pixels=pixels, rows=np.arange(len(pixels)), labels=labels, digest=digest)


@dataclass(frozen=True)
class Splits:
    """A data set ready for a study. `test` is read at its first use, which only the finals make."""

    name: str
    train: Images
    val: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of the training images scaled to [0, 1]
    std: tuple[float, ...]
    read_test: Callable[[], Images]
    task: Task = "single"

    @cached_property
    def test(self) -> Images:
        """The images that no search may see."""
        return self.read_test()

    @property
    def notes(self) -> tuple[str, ...]:
        """Of what a search sees; those of the test images come with these."""
        return tuple(dict.fromkeys((*self.train.notes, *self.val.notes)))

    @property
    def score(self) -> str:
        """What tells how good a classifier is on this task."""
        return "accuracy" if self.task == "single" else "mean average precision"

    @property
    def channels(self) -> int:
        return self.train.shape[1]

    @property
    def image_size(self) -> int:
        return self.train.shape[-1]

    @property
    def fingerprint(self) -> str:
        """sha256 over the training and validation images and labels."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            digest.update(part.digest.encode())
            for array in (part.rows, part.labels):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _restored(fields: dict[str, Any], path: Path | None = None, shape: tuple[int, ...] = ()) -> Images:
    """The same images in another process, which may be on another machine."""
    if path and path.exists():
        return Images(**{**fields, "pixels": np.memmap(path, np.uint8, "r", shape=shape)})
    again = fields["again"]
    if again is None or getattr(fields["pixels"], "here", False):
        return Images(**fields)
    made: Images = again()
    if made.digest != fields["digest"]:
        what = path.parent.parent.name if path else "the study"
        raise ValueError(
            f"the images of {what} on {socket.gethostname()} are not those of the machine that started the study; "
            "give both the same files and the same packages"
        )
    return Images(**{**fields, "pixels": made.pixels})
