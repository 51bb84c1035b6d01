"""Pre-activation ResNets (He et al. 2016, https://arxiv.org/abs/1603.05027) and wide ones made of the same blocks.

Wide ResNets are those of Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stems import SMALL_IMAGE, he, small_convolution

STAGES = {  # name -> blocks of each stage, and whether they are bottlenecks
    "preact_resnet18": ((2, 2, 2, 2), False),
    "preact_resnet34": ((3, 4, 6, 3), False),
    "preact_resnet50": ((3, 4, 6, 3), True),
    "preact_resnet101": ((3, 4, 23, 3), True),
    "preact_resnet152": ((3, 8, 36, 3), True),
}
WIDE = {  # name -> blocks a stage ((depth - 4) / 6), and how many times wider than a ResNet for small images
    "wrn_16_4": (2, 4),
    "wrn_16_8": (2, 8),
    "wrn_28_10": (4, 10),
    "wrn_40_2": (6, 2),
    "wrn_40_4": (6, 4),
}


class PreActBlock(nn.Module):
    """Normalisation and activation before each convolution, so that the skips carry the signal unchanged."""

    def __init__(self, in_width: int, widths: tuple[int, ...], kernels: tuple[int, ...], stride: int, dropout: float):
        super().__init__()
        self.norms, self.convolutions = nn.ModuleList(), nn.ModuleList()
        width = in_width
        strided = kernels.index(3)  # bottlenecks stride in their 3x3 convolution
        for index, (out, kernel) in enumerate(zip(widths, kernels, strict=True)):
            self.norms.append(nn.BatchNorm2d(width))
            step = stride if index == strided else 1
            self.convolutions.append(nn.Conv2d(width, out, kernel, step, kernel // 2, bias=False))
            width = out
        self.dropout = nn.Dropout(dropout)
        changes = stride > 1 or in_width != width
        self.projection = nn.Conv2d(in_width, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norms[0](x))
        skip = x if self.projection is None else self.projection(out)
        out = self.convolutions[0](out)
        for norm, convolution in zip(self.norms[1:], self.convolutions[1:], strict=True):
            out = convolution(self.dropout(F.relu(norm(out))))
        return skip + out  # type: ignore[no-any-return]


class PreActResNet(nn.Module):
    """A stem, stages that halve the map from the second on, a last normalisation, global average pooling."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        he(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.0) -> nn.Module:
    """`dropout` lies between the convolutions of each block, as in wide ResNets."""
    if name in WIDE:
        count, factor = WIDE[name]
        counts: tuple[int, ...] = (count,) * 3
        widths, bottleneck, in_width = [16 * factor, 32 * factor, 64 * factor], False, 16
        stem: nn.Module = small_convolution(in_width)
    else:
        counts, bottleneck = STAGES[name]
        widths, in_width = [64, 128, 256, 512], 64
        stem = small_convolution(in_width)
        if image_size >= SMALL_IMAGE:
            stem = nn.Sequential(nn.Conv2d(3, in_width, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1))
    blocks: list[nn.Module] = []
    for stage, (blocks_of_stage, width) in enumerate(zip(counts, widths, strict=True)):
        outputs, kernels = ((width, width, 4 * width), (1, 3, 1)) if bottleneck else ((width, width), (3, 3))
        for index in range(blocks_of_stage):
            stride = 2 if index == 0 and stage > 0 else 1
            blocks.append(PreActBlock(in_width, outputs, kernels, stride, dropout))
            in_width = outputs[-1]
    return PreActResNet(stem, blocks, in_width, num_classes)
