"""EfficientNets (Tan and Le 2019, https://arxiv.org/abs/1905.11946) as torchvision has them."""

from typing import Any

from torch import nn
from torchvision.models import efficientnet

from models.depthwise import trim_depthwise
from models.stems import SMALL_IMAGE, first_convolution, follow_quickly


def build(name: str, *, num_classes: int, image_size: int, **options: Any) -> nn.Module:
    """`drop_path` is the stochastic depth of the last block; earlier blocks have proportionally less."""
    if "drop_path" in options:
        options["stochastic_depth_prob"] = options.pop("drop_path")
    network: nn.Module = getattr(efficientnet, name)(num_classes=num_classes, **options)
    trim_depthwise(network)
    follow_quickly(network)
    if image_size < SMALL_IMAGE:
        first_convolution(network).stride = (1, 1)
    return network
