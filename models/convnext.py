"""ConvNeXt, tiny (Liu et al. 2022, https://arxiv.org/abs/2201.03545), as torchvision has it."""

from torch import nn
from torchvision.models import convnext

from models.stems import SMALL_IMAGE


def build(name: str, *, num_classes: int, image_size: int, drop_path: float = 0.1) -> nn.Module:
    """Small images are cut into patches of half the side."""
    network = getattr(convnext, name)(num_classes=num_classes, stochastic_depth_prob=drop_path)
    if image_size < SMALL_IMAGE:
        patches = nn.Conv2d(3, network.features[0][0].out_channels, 2, 2)
        nn.init.trunc_normal_(patches.weight, std=0.02)
        network.features[0][0] = patches
    module: nn.Module = network
    return module
