"""AlexNets: Krizhevsky's of 2012, torchvision's after https://arxiv.org/abs/1404.5997, and two for small images.

The paper: https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import alexnet

PIXEL_DEVIATION = 58  # of ImageNet's pixels from 0 to 255, see torchvision's normalisation
NORMALISED = {"alexnet_cifar": False, "alexnet_cifar_lrn": True}


class LocalResponseNorm(nn.Module):
    """Section 3.3 of the paper, whose alpha weighs a sum of squares; that of `nn.LocalResponseNorm` weighs their mean.

    The constants suit pixels from 0 to 255. For standardised images the result is close to a division by k ** beta.
    """

    def forward(self, x: Tensor) -> Tensor:
        size, alpha, beta, k = 5, 1e-4, 0.75, 2.0
        # Channels last: torch's own way, a pooling in three dimensions, takes a CPU more than twice as long.
        mean = F.avg_pool1d((x * x).flatten(2).transpose(1, 2), size, 1, size // 2)
        return x * (k + alpha * size * mean.transpose(1, 2).view_as(x)).pow(-beta)


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.5, groups: int = 2) -> nn.Module:
    """`groups` is of `alexnet_paper` alone: 2 halves three convolutions, as on the paper's two GPUs, 1 does not."""
    if name == "alexnet_paper":
        return _paper(num_classes, dropout, groups)
    network: nn.Module = alexnet(num_classes=num_classes, dropout=dropout)
    if name in NORMALISED:
        network.features = _small_features(NORMALISED[name])
    return network


def _paper(num_classes: int, dropout: float, groups: int) -> nn.Module:
    network = nn.Sequential(
        *_convolution(3, 96, kernel=11, stride=4, padding=2),
        LocalResponseNorm(),
        nn.MaxPool2d(3, 2),
        *_convolution(96, 256, kernel=5, groups=groups),
        LocalResponseNorm(),
        nn.MaxPool2d(3, 2),
        *_convolution(256, 384),
        *_convolution(384, 384, groups=groups),
        *_convolution(384, 256, groups=groups),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, num_classes),
    )
    layers = [module for module in network if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer, bias in zip(layers, (0, 1, 0, 1, 1, 1, 1, 0), strict=True):
        nn.init.normal_(layer.weight, std=0.01)
        assert layer.bias is not None
        nn.init.constant_(layer.bias, bias)
    # The paper feeds pixels from 0 to 255 less their mean. Images here have deviation 1: the first layer makes up for
    # it, without which the biases of 1 would drown them.
    nn.init.normal_(layers[0].weight, std=0.01 * PIXEL_DEVIATION)
    return network


def _small_features(normalised: bool) -> nn.Module:
    """The widths of torchvision's AlexNet, at strides that leave a map of 7x7 from 32 px."""
    return nn.Sequential(
        *_convolution(3, 64, kernel=5),
        *_normalise_and_pool(normalised),
        *_convolution(64, 192, kernel=5),
        *_normalise_and_pool(normalised),
        *_convolution(192, 384),
        *_convolution(384, 256),
        *_convolution(256, 256),
    )


def _normalise_and_pool(normalised: bool) -> list[nn.Module]:
    return [LocalResponseNorm(), nn.MaxPool2d(3, 2)] if normalised else [nn.MaxPool2d(3, 2)]


def _convolution(
    in_width: int, width: int, *, kernel: int = 3, stride: int = 1, padding: int | None = None, groups: int = 1
) -> list[nn.Module]:
    """Padded to keep the size of the map unless told otherwise."""
    padding = kernel // 2 if padding is None else padding
    return [nn.Conv2d(in_width, width, kernel, stride, padding, groups=groups), nn.ReLU(inplace=True)]
