"""What is known of each data set with a name before it is read; nothing here is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NOT_STATED = "none stated"
RESEARCH = "non-commercial research"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A data set as its makers describe it, but for the parts, which are ours."""

    shows: str
    classes: int
    train: int  # images, of which a study holds some out for validation
    test: int
    native: str  # size of the images in pixels, and whether they are gray
    licence: str  # in the words of its makers, shortened; of the images, where these have another
    link: str


EMNIST = "arxiv.org/abs/1702.05373"
IMAGENETTE = "github.com/fastai/imagenette"
CIFAR = "www.cs.toronto.edu/~kriz/cifar.html"


def _imagenette(shows: str, native: str) -> Facts:
    # Apache-2.0 is the licence of the repository, not of ImageNet's photographs
    return Facts(shows=shows, classes=10, train=9_469, test=3_925, native=native, licence=RESEARCH, link=IMAGENETTE)


CATALOGUE: Mapping[str, Facts] = MappingProxyType(
    {
        "digits": Facts(
            shows="handwritten digits", classes=10, train=1_438, test=359, native="8 px gray",
            licence="CC BY 4.0", link="archive.ics.uci.edu/dataset/80",
        ),
        "mnist": Facts(
            shows="handwritten digits", classes=10, train=60_000, test=10_000, native="28 px gray",
            licence="CC BY-SA 3.0", link="doi.org/10.1109/5.726791",
        ),
        "fashion_mnist": Facts(
            shows="articles of clothing", classes=10, train=60_000, test=10_000, native="28 px gray",
            licence="MIT", link="arxiv.org/abs/1708.07747",
        ),
        "kmnist": Facts(
            shows="old Japanese characters", classes=10, train=60_000, test=10_000, native="28 px gray",
            licence="CC BY-SA 4.0", link="arxiv.org/abs/1812.01718",
        ),
        "qmnist": Facts(
            shows="the digits of MNIST and more", classes=10, train=60_000, test=60_000, native="28 px gray",
            licence="BSD", link="arxiv.org/abs/1905.10498",
        ),
        "emnist_balanced": Facts(
            shows="digits and letters", classes=47, train=112_800, test=18_800, native="28 px gray",
            licence=NOT_STATED, link=EMNIST,
        ),
        "emnist_letters": Facts(
            shows="handwritten letters", classes=26, train=124_800, test=20_800, native="28 px gray",
            licence=NOT_STATED, link=EMNIST,
        ),
        "cifar10": Facts(
            shows="animals and vehicles", classes=10, train=50_000, test=10_000, native="32 px",
            licence=NOT_STATED, link=CIFAR,
        ),
        "cifar100": Facts(
            shows="animals, plants and things", classes=100, train=50_000, test=10_000, native="32 px",
            licence=NOT_STATED, link=CIFAR,
        ),
        "svhn": Facts(
            shows="digits of house numbers", classes=10, train=73_257, test=26_032, native="32 px",
            licence="non-commercial", link="ufldl.stanford.edu/housenumbers",
        ),
        "imagenette": _imagenette("ten easy classes of ImageNet", "any size"),
        "imagenette_320": _imagenette("the same", "shorter side 320 px"),
        "imagenette_160": _imagenette("the same", "shorter side 160 px"),
        "imagenet": Facts(
            shows="animals, plants and things", classes=1000, train=1_281_167, test=50_000, native="any size",
            licence=RESEARCH, link="arxiv.org/abs/1409.0575",
        ),
        "voc2012": Facts(
            shows="several things in each", classes=20, train=5_717, test=5_823, native="any size",
            licence="Flickr's terms", link="host.robots.ox.ac.uk/pascal/VOC",
        ),
    }
)  # fmt: skip
