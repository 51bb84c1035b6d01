"""Image files in the place of an array, for sets too large to be kept decoded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets import decode
from datasets.source import Pixels
from datasets.splits import Rows
from datasets.store import MAX_UNREADABLE

SAMPLE = 2_000  # images that the statistics are taken from


class Streamed:
    """Stands for an array (N, 3, size, size); to index it with rows decodes them, in the thread that asks.

    An image that cannot be read is black, because the rest of its batch is already chosen.

    Raises:
        ValueError: on reading, too many images cannot be.
    """

    def __init__(self, files: Sequence[Path], size: int, *, whole: bool) -> None:
        self.files, self.size, self.whole = files, size, whole
        self.asked, self.unreadable = 0, set[Path]()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files), 3, self.size, self.size

    @property
    def here(self) -> bool:
        """Whether the files lie on this machine, as far as the first of them tells."""
        return self.files[0].exists()

    def __getitem__(self, rows: Rows) -> Pixels:
        result = np.zeros((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            try:
                result[place] = decode.read_square(self.files[row], self.size, whole=self.whole)
            except decode.Unreadable as error:
                self._note(self.files[row], error)
        self.asked += len(rows)
        return result

    def moments(self) -> NDArray[np.float32]:
        """(N, 3, 2): mean of an image and of its squares, of a sample spread over all; NaN for the others."""
        sample = np.unique(np.linspace(0, len(self.files) - 1, SAMPLE).astype(np.int64))
        result = np.full((len(self.files), 3, 2), np.nan, np.float32)

        def work(index: int) -> None:
            result[sample[index]] = decode.moments(self[sample[index : index + 1]][0])

        decode.in_threads(work, len(sample), lambda done: None)
        return result

    def _note(self, path: Path, error: decode.Unreadable) -> None:
        if path not in self.unreadable:
            self.unreadable.add(path)
            warnings.warn(f"{error}; it is black", stacklevel=2)
        if len(self.unreadable) > max(MAX_UNREADABLE * len(self.files), 1):
            raise ValueError(f"more than {MAX_UNREADABLE:.0%} of the images cannot be read; the last: {error}")
