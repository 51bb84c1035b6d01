"""Inception-ResNets, Inception networks with residual connections (Szegedy et al. 2016,
https://arxiv.org/abs/1602.07261)."""

from dataclasses import dataclass

from torch import Tensor, nn

from models.branches import SMALLEST_STOCK, Branches, Step, average_pool, chain, network

Paths = tuple[tuple[Step, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Equal residual blocks in a row, then a reduction that halves the map (none after the last stage)."""

    blocks: int
    width: int
    scale: float
    paths: Paths
    reduction: Paths = ()


STAGES = {
    "inception_resnet_v1": (
        Stage(
            blocks=5,
            width=256,
            scale=0.17,
            paths=(((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3))),
            reduction=(((384, 3),), ((192, 1), (192, 3), (256, 3))),
        ),
        Stage(
            blocks=10,
            width=896,
            scale=0.10,
            paths=(((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1)))),
            reduction=(((256, 1), (384, 3)), ((256, 1), (256, 3)), ((256, 1), (256, 3), (256, 3))),
        ),
        Stage(
            blocks=5,
            width=1792,
            scale=0.20,
            paths=(((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1)))),
        ),
    ),
    # Deeper and narrower than the paper's text: the network that its authors released and everybody else reports.
    "inception_resnet_v2": (
        Stage(
            blocks=10,
            width=320,
            scale=0.17,
            paths=(((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
            reduction=(((384, 3),), ((256, 1), (256, 3), (384, 3))),
        ),
        Stage(
            blocks=20,
            width=1088,
            scale=0.10,
            paths=(((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))),
            reduction=(((256, 1), (384, 3)), ((256, 1), (288, 3)), ((256, 1), (288, 3), (320, 3))),
        ),
        Stage(
            blocks=10,
            width=2080,
            scale=0.20,
            paths=(((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))),
        ),
    ),
}


class Residual(nn.Module):
    """Adds its paths, projected to the input's width and scaled down, which keeps wide networks from dying early."""

    def __init__(self, stage: Stage, *, last: bool = False) -> None:
        super().__init__()
        self.paths = Branches(*(chain(stage.width, *steps) for steps in stage.paths))
        self.project = nn.Conv2d(sum(steps[-1][0] for steps in stage.paths), stage.width, 1)
        self.scale = 1.0 if last else stage.scale
        self.activation = nn.Identity() if last else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.scale * self.project(self.paths(x)))
        return out


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.2) -> nn.Module:
    layers = _stem(name, small=image_size < SMALLEST_STOCK)
    for stage in STAGES[name]:
        layers += [Residual(stage) for _ in range(stage.blocks)]
        if stage.reduction:
            paths = (chain(stage.width, *steps, stride=2, padded=False) for steps in stage.reduction)
            layers.append(Branches(*paths, nn.MaxPool2d(3, 2)))
    width = stage.width
    if name == "inception_resnet_v2":
        # In the released network the last block is neither scaled nor rectified, and a convolution follows.
        layers[-1:] = [Residual(stage, last=True), chain(width, (1536, 1))]
        width = 1536
    return network(*layers, width=width, num_classes=num_classes, dropout=dropout)


def _stem(name: str, *, small: bool) -> list[nn.Module]:
    """Small images are halved once instead of three times, and padding keeps their borders; same parameters."""
    layers = [
        chain(3, (32, 3), stride=1 if small else 2, padded=small),
        chain(32, (32, 3), padded=small),
        chain(32, (64, 3)),
        nn.Identity() if small else nn.MaxPool2d(3, 2),
        chain(64, (80, 1)),
        chain(80, (192, 3), padded=small),
    ]
    if name == "inception_resnet_v1":
        return [*layers, chain(192, (256, 3), stride=2, padded=small)]
    widen = Branches(
        chain(192, (96, 1)),
        chain(192, (48, 1), (64, 5)),
        chain(192, (64, 1), (96, 3), (96, 3)),
        nn.Sequential(average_pool(), chain(192, (64, 1))),
    )
    return [*layers, nn.MaxPool2d(3, 2, 1 if small else 0), widen]
