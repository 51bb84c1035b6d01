"""DenseNets of three blocks for small images (Huang et al. 2016, https://arxiv.org/abs/1608.06993)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.stems import he


@dataclass(frozen=True, kw_only=True)
class Form:
    """A row of the paper's table 2; `compact` is its BC: bottlenecks in the layers, halved widths between blocks."""

    depth: int
    growth_rate: int
    compact: bool = False


FORMS = {
    "densenet_40_12": Form(depth=40, growth_rate=12),
    "densenet_100_12": Form(depth=100, growth_rate=12),
    "densenet_bc_100_12": Form(depth=100, growth_rate=12, compact=True),
}
BLOCKS = 3


class DenseLayer(nn.Module):
    """Puts `growth` new channels after those that it gets."""

    def __init__(self, in_width: int, growth: int, compact: bool, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if compact:
            layers += [*_convolution(in_width, 4 * growth, 1), nn.Dropout(dropout)]
            in_width = 4 * growth
        self.layers = nn.Sequential(*layers, *_convolution(in_width, growth, 3), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layers(x)), 1)


def build(
    name: str, *, num_classes: int, image_size: int, growth_rate: int | None = None, dropout: float = 0.0
) -> nn.Module:
    """`growth_rate` is the published one unless given; `dropout` follows each convolution of the dense layers."""
    form = FORMS[name]
    growth = growth_rate or form.growth_rate
    width = 2 * growth if form.compact else 16
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block in range(BLOCKS):
        if block:
            narrowed = width // 2 if form.compact else width
            layers += [*_convolution(width, narrowed, 1), nn.AvgPool2d(2)]
            width = narrowed
        for _ in range((form.depth - BLOCKS - 1) // (BLOCKS * (2 if form.compact else 1))):
            layers.append(DenseLayer(width, growth, form.compact, dropout))
            width += growth
    layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = nn.Linear(width, num_classes)
    network = nn.Sequential(*layers, head)
    he(network)
    nn.init.zeros_(head.bias)
    return network


def _convolution(in_width: int, width: int, kernel: int) -> list[nn.Module]:
    """The paper's order, in which the convolution comes last."""
    convolution = nn.Conv2d(in_width, width, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(in_width), nn.ReLU(inplace=True), convolution]
