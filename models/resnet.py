"""ResNets for ImageNet (He et al. 2015, https://arxiv.org/abs/1512.03385) as torchvision has them."""

from torch import nn
from torchvision.models import resnet

from models.stems import SMALL_IMAGE, small_convolution, without_norm


def build(name: str, *, num_classes: int, image_size: int, stem: str = "auto", norm: str = "batch") -> nn.Module:
    """`stem` is `stock`, `small` (3x3, stride 1, no pooling), `small_pool` or, by the image size, `auto`."""
    network = getattr(resnet, name)(num_classes=num_classes)
    if stem == "auto":
        stem = "small" if image_size < SMALL_IMAGE else "stock"
    if stem != "stock":
        network.conv1 = small_convolution(network.conv1.out_channels)
    if stem == "small":
        network.maxpool = nn.Identity()
    if norm == "none":
        without_norm(network)
    module: nn.Module = network
    return module
