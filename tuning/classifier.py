"""A network as a classifier of raw images: normalisation, number format, and its answers for many images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tuning.loader import Loader

EVAL_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Format:
    """How numbers are held and images laid out in memory: the speed of a training, hardly its result."""

    precision: str = "float32"  # or bfloat16
    memory_format: str = "contiguous"  # or channels_last

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


class Normalised(nn.Module):
    """A classifier of raw images: uint8 (B, C, H, W) -> logits, the normalisation being part of it."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images -> float32 of mean 0 and deviation 1 over the training set."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        return (images.float() - self.mean) / self.std


@torch.inference_mode()
def predict(model: nn.Module, loader: Loader, format: Format) -> tuple[Tensor, Tensor]:
    """Float logits (N, classes) of a `Normalised` model for all images, and their labels; as many at once as fit."""
    model.eval()
    size = EVAL_BATCH
    while True:
        try:
            return torch.cat(list(_logits(model, loader, format, size))), loader.labels
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
        free(loader.device)


def _logits(model: nn.Module, loader: Loader, format: Format, size: int) -> Iterator[Tensor]:
    for images, _ in loader.in_order(size):
        with format.autocast(images.device):
            yield model(images.contiguous(memory_format=format.layout)).float()


def free(device: torch.device) -> None:
    """Gives cached blocks back, so that smaller ones can be cut from them."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
