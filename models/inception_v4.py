"""Inception-v4 (Szegedy et al. 2016, https://arxiv.org/abs/1602.07261)."""

from torch import nn

from models.branches import SMALLEST_STOCK, Branches, average_pool, chain, network


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.2) -> nn.Module:
    layers = [
        _stem(small=image_size < SMALLEST_STOCK),
        *(_inception_a() for _ in range(4)),
        _reduction_a(),
        *(_inception_b() for _ in range(7)),
        _reduction_b(),
        *(_inception_c() for _ in range(3)),
    ]
    return network(*layers, width=1536, num_classes=num_classes, dropout=dropout)


def _stem(*, small: bool) -> nn.Module:
    """Small images are halved once instead of three times, and padding keeps their borders; same parameters."""
    stride, pad = (1, 1) if small else (2, 0)
    return nn.Sequential(
        chain(3, (32, 3), stride=stride, padded=small),
        chain(32, (32, 3), padded=small),
        chain(32, (64, 3)),
        Branches(nn.MaxPool2d(3, stride, pad), chain(64, (96, 3), stride=stride, padded=small)),
        Branches(
            chain(160, (64, 1), (96, 3), padded=small),
            chain(160, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3), padded=small),
        ),
        Branches(chain(192, (192, 3), stride=2, padded=small), nn.MaxPool2d(3, 2, pad)),
    )


def _inception_a() -> nn.Module:
    return Branches(
        chain(384, (96, 1)),
        chain(384, (64, 1), (96, 3)),
        chain(384, (64, 1), (96, 3), (96, 3)),
        nn.Sequential(average_pool(), chain(384, (96, 1))),
    )


def _reduction_a() -> nn.Module:
    return Branches(
        chain(384, (384, 3), stride=2, padded=False),
        chain(384, (192, 1), (224, 3), (256, 3), stride=2, padded=False),
        nn.MaxPool2d(3, 2),
    )


def _inception_b() -> nn.Module:
    return Branches(
        chain(1024, (384, 1)),
        chain(1024, (192, 1), (224, (1, 7)), (256, (7, 1))),
        chain(1024, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
        nn.Sequential(average_pool(), chain(1024, (128, 1))),
    )


def _reduction_b() -> nn.Module:
    return Branches(
        chain(1024, (192, 1), (192, 3), stride=2, padded=False),
        chain(1024, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3), stride=2, padded=False),
        nn.MaxPool2d(3, 2),
    )


def _inception_c() -> nn.Module:
    def fork(in_width: int) -> nn.Module:
        return Branches(chain(in_width, (256, (1, 3))), chain(in_width, (256, (3, 1))))

    return Branches(
        chain(1536, (256, 1)),
        nn.Sequential(chain(1536, (384, 1)), fork(384)),
        nn.Sequential(chain(1536, (384, 1), (448, (3, 1)), (512, (1, 3))), fork(512)),
        nn.Sequential(average_pool(), chain(1536, (256, 1))),
    )
