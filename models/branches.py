"""The parts that Inception networks share: chains of convolutions, run side by side and concatenated
(Szegedy et al. 2014, https://arxiv.org/abs/1409.4842)."""

import torch
from torch import Tensor, nn

from models.stems import he

SMALLEST_STOCK = 75  # px; below, the stem that Inception-v3 and later share and the two reductions leave no pixel

Step = tuple[int, int | tuple[int, int]]  # a convolution's width and kernel


class Branches(nn.ModuleList):
    """Every branch sees the same input; their channels are concatenated in order."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


def chain(in_width: int, *steps: Step, stride: int = 1, padded: bool = True) -> nn.Sequential:
    """Convolutions, each with batch normalisation and ReLU; `stride` and `padded` are those of the last one."""
    layers: list[nn.Module] = []
    for index, (width, kernel) in enumerate(steps):
        height, length = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        last = index == len(steps) - 1
        padding = (height // 2, length // 2) if padded or not last else 0
        layers += [
            nn.Conv2d(in_width, width, (height, length), stride if last else 1, padding, bias=False),
            nn.BatchNorm2d(width, eps=1e-3),
            nn.ReLU(inplace=True),
        ]
        in_width = width
    return nn.Sequential(*layers)


def average_pool() -> nn.Module:
    """Of stride 1; padding does not count, as in Google's own code."""
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def network(*layers: nn.Module, width: int, num_classes: int, dropout: float) -> nn.Module:
    """`layers` that end in `width` channels, then the classifier; freshly initialised."""
    module = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, num_classes)
    )
    he(module)
    return module
