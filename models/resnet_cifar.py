"""ResNets for small images and their plain kin: section 4.2 of He et al. 2015 (https://arxiv.org/abs/1512.03385)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stems import he, without_norm

BLOCKS = {  # name -> blocks a stage, and the kind of skip
    "resnet20": (3, "A"),
    "resnet32": (5, "A"),
    "resnet44": (7, "A"),
    "resnet56": (9, "A"),
    "resnet110": (18, "A"),
    "resnet20_b": (3, "B"),
    "resnet32_b": (5, "B"),
    "resnet44_b": (7, "B"),
    "resnet56_b": (9, "B"),
    "resnet110_b": (18, "B"),
    "plain20": (3, "none"),
    "plain32": (5, "none"),
    "plain44": (7, "none"),
    "plain56": (9, "none"),
}


class Block(nn.Module):
    """Two 3x3 convolutions and a skip: where the shape changes, A pads new channels with zeros, B projects."""

    def __init__(self, in_width: int, width: int, stride: int, skip: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra, self.skips = stride, width - in_width, skip != "none"
        self.projection: nn.Module | None = None
        if skip == "B" and self.extra:
            convolution = nn.Conv2d(in_width, width, 1, stride, bias=False)
            self.projection = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        return F.relu(out + self.skip(x) if self.skips else out)

    def residual(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return out

    def skip(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            projected: Tensor = self.projection(x)
            return projected
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2)) if self.extra else x


class CifarResNet(nn.Module):
    """6n+2 layers: a 3x3 stem, three stages of n blocks with 16, 32 and 64 channels, global average pooling."""

    def __init__(self, blocks: int, skip: str, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        layers: list[nn.Module] = []
        in_width = 16
        for width in (16, 32, 64):
            for index in range(blocks):
                layers.append(Block(in_width, width, 2 if index == 0 and width > 16 else 1, skip))
                in_width = width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(64, num_classes)
        he(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def build(name: str, *, num_classes: int, image_size: int, norm: str = "batch") -> nn.Module:
    network = CifarResNet(*BLOCKS[name], num_classes)
    if norm == "none":
        without_norm(network)
    return network
