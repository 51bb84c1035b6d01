"""DenseNets for ImageNet (Huang et al. 2016, https://arxiv.org/abs/1608.06993) as torchvision has them."""

from torch import nn
from torchvision.models import densenet

from models.stems import SMALL_IMAGE, first_convolution, small_convolution


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.0) -> nn.Module:
    """`dropout` acts on what each dense layer adds. Small images get a stem of stride 1 without pooling."""
    network: nn.Module = getattr(densenet, name)(num_classes=num_classes, drop_rate=dropout)
    if image_size < SMALL_IMAGE:
        features = network.get_submodule("features")
        features.conv0 = small_convolution(first_convolution(network).out_channels)
        features.pool0 = nn.Identity()
    return network
