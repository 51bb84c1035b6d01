"""GoogLeNet (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842) and Inception-v3 (Szegedy et al. 2015,
https://arxiv.org/abs/1512.00567) as torchvision has them, with stems for small images."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import googlenet, inception_v3

from models.branches import SMALLEST_STOCK
from models.stems import SMALL_IMAGE, small_convolution

SMALLEST_STOCK_AUXILIARY = 299  # px; below, the map is too small for the 5x5 convolution of its auxiliary head


class SmallAuxiliary(nn.Module):
    """Inception-v3's auxiliary head with its pooling made adaptive: same parameters, any size."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.conv0, self.conv1, self.fc = stock.conv0, stock.conv1, stock.fc

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.conv0(F.adaptive_avg_pool2d(x, 5)))
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits


def build(name: str, *, num_classes: int, image_size: int, aux: bool = False, **options: Any) -> nn.Module:
    """`aux` adds auxiliary heads: in training mode the network then gives a tuple, the logits of its end first."""
    builder = {"googlenet": googlenet, "inception_v3": inception_v3}[name]
    model: Any = builder(num_classes=num_classes, aux_logits=aux, init_weights=True, **options)
    if name == "googlenet" and image_size < SMALL_IMAGE:
        model.conv1.conv = small_convolution(64)
        model.maxpool1 = nn.Identity()
    if name == "inception_v3" and image_size < SMALLEST_STOCK:
        _halve_once(model)
    if name == "inception_v3" and image_size < SMALLEST_STOCK_AUXILIARY and aux:
        model.AuxLogits = SmallAuxiliary(model.AuxLogits)
    if aux:
        model.register_forward_hook(_plain_tuple)
    network: nn.Module = model
    return network


def _halve_once(model: Any) -> None:
    """Of Inception-v3's stem only the last stride stays, and padding keeps the borders; same parameters."""
    model.Conv2d_1a_3x3.conv.stride = (1, 1)
    for block in (model.Conv2d_1a_3x3, model.Conv2d_2a_3x3, model.Conv2d_4a_3x3):
        block.conv.padding = (1, 1)
    model.maxpool1 = nn.Identity()
    model.maxpool2.padding = 1


def _plain_tuple(network: nn.Module, images: Any, output: Any) -> Any:
    # torchvision returns a named tuple in training mode, of another type for each network.
    return tuple(output) if isinstance(output, tuple) else output
