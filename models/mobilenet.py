"""MobileNets: V1 (Howard et al. 2017, https://arxiv.org/abs/1704.04861), and V2 and V3 as torchvision has them.

V2: Sandler et al. 2018, https://arxiv.org/abs/1801.04381; V3: Howard et al. 2019, https://arxiv.org/abs/1905.02244.
"""

from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf

from models.depthwise import trim_depthwise
from models.stems import SMALL_IMAGE, first_convolution, follow_quickly

V1 = (  # width and stride of each block, table 1
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),  # the table prints a stride of 2 beside a map that keeps its size
)


def build(
    name: str, *, num_classes: int, image_size: int, width: float = 1.0, dropout: float | None = None
) -> nn.Module:
    """`width` multiplies all widths; `dropout`, before the last layer, is 0 in V1 and 0.2 in V2 and V3 unless given."""
    network: nn.Module
    if name == "mobilenet_v1":
        network = _mobilenet_v1(num_classes, width, dropout or 0.0)
    else:
        rate = 0.2 if dropout is None else dropout
        if name == "mobilenet_v2":
            network = mobilenet_v2(num_classes=num_classes, width_mult=width, dropout=rate)
        else:
            blocks, last_width = _mobilenet_v3_conf(name, width_mult=width)
            network = MobileNetV3(blocks, last_width, num_classes=num_classes, dropout=rate)
    trim_depthwise(network)
    follow_quickly(network)
    if image_size < SMALL_IMAGE:
        first_convolution(network).stride = (1, 1)
    return network


def _mobilenet_v1(num_classes: int, multiplier: float, dropout: float) -> nn.Module:
    in_width = _scaled(32, multiplier)
    layers = _convolution(3, in_width, kernel=3, stride=2)
    for published, stride in V1:
        width = _scaled(published, multiplier)
        layers += _convolution(in_width, in_width, kernel=3, stride=stride, groups=in_width)
        layers += _convolution(in_width, width, kernel=1)
        in_width = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(in_width, num_classes))


def _scaled(width: int, multiplier: float) -> int:
    """At least 8, as in the authors' code."""
    return max(int(width * multiplier), 8)


def _convolution(in_width: int, width: int, *, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(in_width, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    # Not by the fan-out, which torch counts over all groups: depthwise weights would start far too small.
    nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
