"""Batches on the training device: from an array that lies there as a whole, or read ahead by threads."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets import Images

DEVICE_SHARE = 0.4  # of a GPU's free memory that the images of a training may take
UPLOAD = 4096  # images copied to a GPU at a time
AHEAD = 2  # batches that are ready, for each thread that reads


class Loader:
    """Serves batches of `images`, as uint8 tensors (B, C, H, W) with their labels, on `device`.

    On a CPU the tensors share the memory of the array: index, never write.
    """

    def __init__(self, images: Images, device: str | torch.device) -> None:
        self.images, self.device = images, torch.device(device)
        self.labels = _shared(images.labels).to(self.device)
        self.rows: Tensor | None = None
        self.pixels: Tensor | None = None  # None: read ahead
        if isinstance(images.pixels, np.ndarray):
            if self.device.type == "cpu":
                self.pixels, self.rows = _shared(images.pixels), _shared(images.rows)
            elif len(images) * int(np.prod(images.shape[1:])) <= DEVICE_SHARE * torch.cuda.mem_get_info(self.device)[0]:
                self.pixels = _uploaded(images, self.device)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The batch of each row of `order` (steps, B), which holds indices of the images."""
        if self.pixels is None:
            yield from self._read_ahead(order)
            return
        for batch in order.to(self.device):
            rows = batch if self.rows is None else self.rows[batch]
            yield self.pixels[rows], self.labels[batch]

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, the last batch shorter."""
        full = len(self) - len(self) % size
        every = torch.arange(len(self))
        yield from self.batches(every[:full].view(-1, size))
        if full < len(self):
            yield from self.batches(every[None, full:])

    def _read_ahead(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """While a batch is in use the next ones are read by as many threads as torch may use."""
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            pending = deque(pool.submit(self._read, batch) for batch in order[: threads * AHEAD])
            for step, batch in enumerate(order):
                pixels = pending.popleft().result()
                if (following := step + threads * AHEAD) < len(order):
                    pending.append(pool.submit(self._read, order[following]))
                yield pixels.to(self.device, non_blocking=True), self.labels[batch.to(self.device)]

    def _read(self, batch: Tensor) -> Tensor:
        pixels = torch.from_numpy(self.images.pixels[self.images.rows[batch.numpy()]])
        return pixels.pin_memory() if self.device.type == "cuda" else pixels


def _shared(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _uploaded(images: Images, device: torch.device) -> Tensor:
    """The images on a GPU, copied in pieces, so that no second copy of all lies in main memory."""
    pixels = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), UPLOAD):
        piece = images.pixels[images.rows[start : start + UPLOAD]]
        pixels[start : start + len(piece)] = torch.from_numpy(piece).to(device)
    return pixels
