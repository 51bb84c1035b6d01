"""VGGs (Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556): torchvision's, and the small ones used on CIFAR.

The small ones end in global average pooling and one linear layer, in place of nine tenths of the parameters.
"""

from torch import nn
from torchvision.models import vgg

from models.stems import he

SMALL = {  # name -> convolutions before each of the five poolings, and whether each is batch-normalised
    "vgg11_cifar": ((1, 1, 2, 2, 2), False),
    "vgg13_cifar": ((2, 2, 2, 2, 2), False),
    "vgg16_cifar": ((2, 2, 3, 3, 3), False),
    "vgg19_cifar": ((2, 2, 4, 4, 4), False),
    "vgg11_bn_cifar": ((1, 1, 2, 2, 2), True),
    "vgg13_bn_cifar": ((2, 2, 2, 2, 2), True),
    "vgg16_bn_cifar": ((2, 2, 3, 3, 3), True),
    "vgg19_bn_cifar": ((2, 2, 4, 4, 4), True),
}
WIDTHS = (64, 128, 256, 512, 512)


def build(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    dropout: float | None = None,
    dropout2d: float = 0.0,
    head_width: int = 0,
) -> nn.Module:
    """`dropout` is 0.5 in torchvision's and 0 in the small ones unless given; the rest is of the small ones alone.

    `dropout2d` drops whole channels after each pooling. A `head_width` puts two hidden layers before the last one.
    """
    if name in SMALL:
        depths, normalised = SMALL[name]
        head = _head(num_classes, head_width, dropout or 0.0)
        return nn.Sequential(_features(depths, normalised, dropout2d), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    network: nn.Module = getattr(vgg, name)(num_classes=num_classes, dropout=0.5 if dropout is None else dropout)
    return network


def _features(depths: tuple[int, ...], normalised: bool, dropout2d: float) -> nn.Module:
    layers: list[nn.Module] = []
    in_width = 3
    for depth, width in zip(depths, WIDTHS, strict=True):
        for _ in range(depth):
            convolution = nn.Conv2d(in_width, width, 3, padding=1)
            he(convolution)
            layers += [convolution, nn.BatchNorm2d(width)] if normalised else [convolution]
            layers.append(nn.ReLU(inplace=True))
            in_width = width
        # Rounding up leaves a pixel of every image, however small.
        layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout2d(dropout2d)]
    return nn.Sequential(*layers)


def _head(num_classes: int, head_width: int, dropout: float) -> nn.Module:
    """Weights as torch draws them: torchvision's deviation of 0.01 suits 4096 inputs, and trains slowly behind 512."""
    layers: list[nn.Module] = []
    in_width = WIDTHS[-1]
    for _ in range(2 if head_width else 0):
        layers += [nn.Linear(in_width, head_width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        in_width = head_width
    if not head_width:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(in_width, num_classes))
