"""Every architecture by name, with what can be said of it without building it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMAGENET, CIFAR = "ImageNet", "CIFAR-10"
STEM, NORM = "stem", "norm"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One registry entry. Sizes are sides of square images in pixels."""

    module: str  # in this package; its build(name, ...) makes the network
    family: str
    year: int | None
    paper: str  # arXiv number, or another address
    min_size: int
    native_size: int  # what it was published for
    multiple: int = 1  # an image's side must be a multiple of this
    options: tuple[str, ...] = ()  # what build() takes besides the size of its ends
    published: float | None = None  # best known single-crop accuracy in %, of `benchmark`

    @property
    def benchmark(self) -> str:
        return CIFAR if self.native_size == 32 else IMAGENET

    def fits(self, image_size: int) -> bool:
        return image_size >= self.min_size and image_size % self.multiple == 0

    def fitting_size(self, image_size: int) -> int:
        """The smallest size that the architecture can take and that is not below `image_size`."""
        size = max(image_size, self.min_size)
        return -(-size // self.multiple) * self.multiple


def _entries(
    module: str,
    names: Mapping[str, float | None],
    *,
    year: int,
    paper: str,
    min_size: int,
    family: str | None = None,
    native_size: int = 224,
    multiple: int = 1,
    options: tuple[str, ...] = (),
) -> dict[str, Architecture]:
    """Architectures that differ in nothing but name and published accuracy."""
    return {
        name: Architecture(
            module=module,
            family=family or module,
            year=year,
            paper=paper,
            min_size=min_size,
            native_size=native_size,
            multiple=multiple,
            options=options,
            published=published,
        )
        for name, published in names.items()
    }


def _efficientnet(name: str, native_size: int, published: float) -> dict[str, Architecture]:
    return _entries(
        "efficientnet", {name: published}, year=2019, paper="1905.11946", min_size=16, native_size=native_size,
        options=("dropout", "drop_path"),
    )  # fmt: skip


# Accuracies: torchvision's first weights where it has the architecture, else the paper's own figure or, for the small
# images of CIFAR-10, the paper's or that of the re-training named beside it.
ARCHITECTURES: dict[str, Architecture] = {
    **_entries("alexnet", {"alexnet_paper": 59.3}, year=2012, paper="papers.nips.cc/paper/4824", min_size=63,
               options=("dropout", "groups")),
    **_entries("alexnet", {"alexnet": 56.522}, year=2014, paper="1404.5997", min_size=63, options=("dropout",)),
    **_entries("alexnet", {"alexnet_cifar": None, "alexnet_cifar_lrn": None}, year=2012,
               paper="papers.nips.cc/paper/4824", min_size=16, native_size=32, options=("dropout",)),
    **_entries("vgg", {"vgg11": 69.02, "vgg13": 69.928, "vgg16": 71.592, "vgg19": 72.376,
                       "vgg11_bn": 70.37, "vgg13_bn": 71.586, "vgg16_bn": 73.36, "vgg19_bn": 74.218},
               year=2014, paper="1409.1556", min_size=32, options=("dropout",)),
    # github.com/kuangliu/pytorch-cifar, github.com/bearpaw/pytorch-classification
    **_entries("vgg", {"vgg11_bn_cifar": None, "vgg13_bn_cifar": None, "vgg16_bn_cifar": 92.64,
                       "vgg19_bn_cifar": 93.34, **dict.fromkeys(("vgg11_cifar", "vgg13_cifar", "vgg16_cifar",
                                                                 "vgg19_cifar"))},
               year=2014, paper="1409.1556", min_size=8, native_size=32,
               options=("dropout", "dropout2d", "head_width")),
    **_entries("inception", {"googlenet": 69.778}, year=2014, paper="1409.4842", min_size=16,
               options=("aux", "dropout")),
    **_entries("inception_v2", {"inception_v2": 74.8}, family="inception", year=2015, paper="1502.03167", min_size=16,
               options=("dropout",)),
    **_entries("inception", {"inception_v3": 77.294}, year=2015, paper="1512.00567", min_size=16, native_size=299,
               options=("aux", "dropout")),
    **_entries("inception_v4", {"inception_v4": 80.0}, family="inception", year=2016, paper="1602.07261", min_size=16,
               native_size=299, options=("dropout",)),
    **_entries("inception_resnet", {"inception_resnet_v1": 78.7, "inception_resnet_v2": 80.1}, family="inception",
               year=2016, paper="1602.07261", min_size=16, native_size=299, options=("dropout",)),
    **_entries("resnet", {"resnet18": 69.758, "resnet34": 73.314, "resnet50": 76.13, "resnet101": 77.374,
                          "resnet152": 78.312},
               year=2015, paper="1512.03385", min_size=8, options=(NORM, STEM)),
    **_entries("resnet_cifar", {"resnet20": 91.25, "resnet32": 92.49, "resnet44": 92.83, "resnet56": 93.03,
                                "resnet110": 93.57,
                                # github.com/chenyaofo/pytorch-cifar-models
                                "resnet20_b": 92.6, "resnet32_b": 93.53, "resnet44_b": 94.01, "resnet56_b": 94.37,
                                "resnet110_b": None, "plain20": None, "plain32": None, "plain44": None,
                                "plain56": None},
               family="resnet", year=2015, paper="1512.03385", min_size=8, native_size=32, options=(NORM,)),
    **_entries("preact_resnet", {f"preact_resnet{depth}": None for depth in (18, 34, 50, 101, 152)},
               family="resnet", year=2016, paper="1603.05027", min_size=8, options=("dropout",)),
    **_entries("preact_resnet", {"wrn_16_4": None, "wrn_16_8": 95.73, "wrn_28_10": 96.0, "wrn_40_2": None,
                                 "wrn_40_4": None},
               family="wide_resnet", year=2016, paper="1605.07146", min_size=8, native_size=32, options=("dropout",)),
    **_entries("senet", {"se_resnet18": None, "se_resnet34": None, "se_resnet50": 76.71, "se_resnet101": 77.62,
                         "se_resnet152": 78.43},
               year=2017, paper="1709.01507", min_size=8, options=(NORM, "se_ratio", STEM)),
    **_entries("senet", {"se_resnet20": None, "se_resnet32": None, "se_resnet44": None, "se_resnet56": None,
                         "se_resnet110": 94.79},
               year=2017, paper="1709.01507", min_size=8, native_size=32, options=(NORM, "se_ratio")),
    **_entries("densenet", {"densenet121": 74.434, "densenet161": 77.138, "densenet169": 75.6, "densenet201": 76.896},
               year=2016, paper="1608.06993", min_size=8, options=("dropout",)),
    **_entries("densenet_cifar", {"densenet_40_12": 94.76, "densenet_100_12": 95.9, "densenet_bc_100_12": 95.49},
               family="densenet", year=2016, paper="1608.06993", min_size=8, native_size=32,
               options=("dropout", "growth_rate")),
    **_entries("mobilenet", {"mobilenet_v1": 70.6}, year=2017, paper="1704.04861", min_size=16,
               options=("dropout", "width")),
    **_entries("mobilenet", {"mobilenet_v2": 71.878}, year=2018, paper="1801.04381", min_size=16,
               options=("dropout", "width")),
    **_entries("mobilenet", {"mobilenet_v3_small": 67.668, "mobilenet_v3_large": 74.042}, year=2019,
               paper="1905.02244", min_size=16, options=("dropout", "width")),
    **_efficientnet("efficientnet_b0", 224, 77.692),
    **_efficientnet("efficientnet_b1", 240, 78.642),
    **_efficientnet("efficientnet_b2", 288, 80.608),
    **_efficientnet("efficientnet_b3", 300, 82.008),
    **_efficientnet("efficientnet_b4", 380, 83.384),
    **_efficientnet("efficientnet_b5", 456, 83.444),
    **_efficientnet("efficientnet_b6", 528, 84.008),
    **_efficientnet("efficientnet_b7", 600, 84.122),
    **_entries("vit", {"vit_b_16": 81.072, "vit_l_16": 79.662}, year=2020, paper="2010.11929", min_size=32, multiple=16,
               options=("drop_path", "dropout")),
    **_entries("vit", {"vit_b_32": 75.912}, year=2020, paper="2010.11929", min_size=64, multiple=32,
               options=("drop_path", "dropout")),
    **_entries("vit", {"vit_tiny_16": 72.19, "vit_small_16": 79.86}, year=2020, paper="2012.12877", min_size=32,
               multiple=16, options=("drop_path", "dropout")),
    # github.com/omihub777/ViT-CIFAR
    **_entries("vit", {"vit_cifar": 90.92}, year=2020, paper="2010.11929", min_size=8, native_size=32, multiple=4,
               options=("drop_path", "dropout")),
    **_entries("swin", {"swin_t": 81.474}, year=2021, paper="2103.14030", min_size=16,
               options=("drop_path", "dropout")),
    **_entries("convnext", {"convnext_tiny": 82.52}, year=2022, paper="2201.03545", min_size=16,
               options=("drop_path",)),
}  # fmt: skip
