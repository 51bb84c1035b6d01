"""Squeeze-and-excitation ResNets (Hu et al. 2017, https://arxiv.org/abs/1709.01507): each block weighs its channels."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import SqueezeExcitation

from models import resnet, resnet_cifar


class SEBasicBlock(BasicBlock):  # type: ignore[misc]
    """torchvision's block of two 3x3 convolutions with its channels weighed before the skip is added."""

    se: SqueezeExcitation

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        output: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return output


class SEBottleneck(Bottleneck):  # type: ignore[misc]
    """torchvision's bottleneck block with its channels weighed before the skip is added."""

    se: SqueezeExcitation

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        output: Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return output


class SECifarBlock(resnet_cifar.Block):
    """The block of the ResNets for small images with its channels weighed before the skip is added."""

    se: SqueezeExcitation

    def residual(self, x: Tensor) -> Tensor:
        weighed: Tensor = self.se(super().residual(x))
        return weighed


WEIGHED: dict[type[nn.Module], type[nn.Module]] = {
    BasicBlock: SEBasicBlock,
    Bottleneck: SEBottleneck,
    resnet_cifar.Block: SECifarBlock,
}


def build(name: str, *, num_classes: int, image_size: int, se_ratio: int = 16, **options: Any) -> nn.Module:
    """`se_ratio` is how many times narrower the squeezed layer is than the block; `options` are those of the ResNet."""
    plain = name.removeprefix("se_")
    make = resnet_cifar.build if plain in resnet_cifar.BLOCKS else resnet.build
    network: nn.Module = make(plain, num_classes=num_classes, image_size=image_size, **options)
    for block in list(network.modules()):
        if type(block) in WEIGHED:
            convolutions = [child for child in block.children() if isinstance(child, nn.Conv2d)]
            width = convolutions[-1].out_channels
            block.__class__ = WEIGHED[type(block)]
            block.se = SqueezeExcitation(width, max(width // se_ratio, 1))
    return network
