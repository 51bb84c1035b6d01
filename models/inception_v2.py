"""Inception-v2, also called BN-Inception, with which batch normalisation was introduced (Ioffe and Szegedy 2015,
https://arxiv.org/abs/1502.03167)."""

from typing import NamedTuple

from torch import nn

from models.branches import Branches, average_pool, chain, network
from models.stems import SMALL_IMAGE


class Row(NamedTuple):
    """Widths of one module in the paper's table 1; without a pool projection it has stride 2 and no 1x1 branch."""

    one: int
    reduce_three: int
    three: int
    reduce_double: int
    double: int
    pool: str
    project: int


# The table contradicts itself in 4c and 4d: by its output column, as in Google's code, they would project 96 channels.
ROWS = (  # 3a-3c, 4a-4e, 5a-5b
    Row(64, 64, 64, 64, 96, "average", 32),
    Row(64, 64, 96, 64, 96, "average", 64),
    Row(0, 128, 160, 64, 96, "max", 0),
    Row(224, 64, 96, 96, 128, "average", 128),
    Row(192, 96, 128, 96, 128, "average", 128),
    Row(160, 128, 160, 128, 160, "average", 128),
    Row(96, 128, 192, 160, 192, "average", 128),
    Row(0, 128, 192, 192, 256, "max", 0),
    Row(352, 192, 320, 160, 224, "average", 128),
    Row(352, 192, 320, 192, 224, "max", 128),
)


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.0) -> nn.Module:
    # Some ports give the convolutions biases, 10,016 in all, which batch normalisation cancels.
    small = image_size < SMALL_IMAGE
    layers = [chain(3, (64, 3))] if small else [chain(3, (64, 7), stride=2), _max_pool(2)]
    layers += [chain(64, (64, 1), (192, 3)), _max_pool(2)]
    width = 192
    for row in ROWS:
        layers.append(_inception(width, row))
        width = row.one + row.three + row.double + (row.project or width)
    return network(*layers, width=width, num_classes=num_classes, dropout=dropout)


def _inception(in_width: int, row: Row) -> nn.Module:
    stride = 1 if row.project else 2
    branches = [
        chain(in_width, (row.reduce_three, 1), (row.three, 3), stride=stride),
        chain(in_width, (row.reduce_double, 1), (row.double, 3), (row.double, 3), stride=stride),
    ]
    if stride == 2:
        return Branches(*branches, _max_pool(2))
    pool = average_pool() if row.pool == "average" else _max_pool(1)
    return Branches(chain(in_width, (row.one, 1)), *branches, nn.Sequential(pool, chain(in_width, (row.project, 1))))


def _max_pool(stride: int) -> nn.Module:
    # Padded as the convolutions beside it, so that their maps agree at odd sizes too.
    return nn.MaxPool2d(3, stride, 1)
