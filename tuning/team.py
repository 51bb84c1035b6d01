"""The processes that train one model together: which rows are whose, and what they tell each other.

A batch is split over them, and its gradients are added up: the result is that of one process up to the rounding of
sums, as far as images do not depend on each other. Where they do, it is as if the batch had been split for want of
memory: a batch norm takes its statistics over the process's part, as published recipes for several GPUs did, and its
running ones are averaged after each epoch. PyTorch's SyncBatchNorm would take them over the whole batch, but there the
processes wait for each other inside the network, where one that is out of memory would leave the others for ever. Draws
(augmentation, dropout) are each process's own, and images are mixed with others of the same part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """This process's place among those of PyTorch's process group; alone if there is none."""

    rank: int = 0
    size: int = 1

    def part(self, rows: int) -> slice:
        """This process's of so many rows; no process has two more than another."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def largest_part(self, rows: int) -> int:
        """How many of so many rows a process has at most."""
        return -(-rows // self.size)

    def most(self, value: float) -> float:
        """The largest of the values that the processes give."""
        if self.size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return told.item()

    def pack(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """The message for `add_`; apart from it, for it takes memory. None where nobody would read it."""
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if self.size > 1 else None

    def add_(self, tensors: Sequence[Tensor], message: Tensor | None) -> None:
        """Sets each tensor to its sum over the processes: to the same bits in all of them."""
        if message is not None:
            dist.all_reduce(message)
            sums = torch.split(message, [tensor.numel() for tensor in tensors])
            for tensor, added in zip(tensors, sums, strict=True):
                tensor.detach().copy_(added.view(tensor.shape))

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Sets each floating-point tensor to its mean over the processes."""
        floats = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.size > 1 and floats:
            self.add_(floats, self.pack(floats))
            torch._foreach_div_(floats, self.size)

    def all_rows(self, own: Tensor, rows: int) -> Tensor:
        """The rows of all processes, of which each has its `part`."""
        if self.size == 1:
            return own
        every = own.new_zeros((rows, *own.shape[1:]))
        every[self.part(rows)] = own
        dist.all_reduce(every)
        return every

    def of_first(self, value: Any) -> Any:
        """What the first process gives."""
        told = [value]
        if self.size > 1:
            dist.broadcast_object_list(told, src=0, device=torch.device("cpu"), weights_only=True)
        return told[0]


def current() -> Team:
    """The team of this process."""
    return Team(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Team()
