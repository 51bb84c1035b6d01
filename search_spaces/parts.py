"""What many tables share: ranges of augmentation and regularisation, and how a rate follows the batch size."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import Condition

Part = Mapping[str, BaseDistribution]
Recipe = Mapping[str, Any]


def scaled(lr: float, batch_size: int, to: int) -> float:
    """A published rate for another batch size, by the linear rule of Goyal et al. 2017 (arXiv:1706.02677)."""
    return lr * to / batch_size


def batches(*sizes: int) -> Part:
    """Batches of tens of images: small sets need the many steps that small batches give."""
    return {"batch_size": CategoricalDistribution(sizes)}


SGD: Recipe = MappingProxyType({"optimizer": "sgd", "momentum": 0.9})
RMSPROP: Recipe = MappingProxyType({"optimizer": "rmsprop", "momentum": 0.9})


def steps(start: float, every: float, *, factor: float = 0.1) -> Recipe:
    """A rate that falls to a `factor` of itself at `start`, and then each `every`; both are shares of the training."""
    return {"schedule": "step", "step_start": start, "step_every": every, "step_gamma": factor}


GENERAL: Part = MappingProxyType(
    {
        "warmup": FloatDistribution(0.0, 0.3),  # a share of the epochs; short runs at a high rate need it most
        "label_smoothing": FloatDistribution(0.0, 0.2),  # 0.1 is the usual value, more costs confidence
        # mirrored digits are other digits; photographs have their objects at any distance, and want resized crops
        "augmentation": CategoricalDistribution(("none", "crop", "crop_flip", "resized_crop_flip")),
        # 0.08 in Szegedy et al. 2014 and in ImageNet recipes since, 0.35 in fastai's for Imagenette; 1 is flips alone
        "crop_scale": FloatDistribution(0.08, 1.0),
    }
)
# Many of the published recipes take resized crops of ImageNet's large photographs. The first trials here shift instead,
# as everybody does for small images: a network sees little of 32 pixels at a tenth of their area.
PLAIN: Recipe = MappingProxyType(
    {"warmup": 0.0, "label_smoothing": 0.0, "augmentation": "crop_flip", "crop_scale": 0.35}
)

# For networks that are trained on photographs: 0.4 for ImageNet in fb.resnet.torch and timm, up to 0.5 by Inception's
# authors. Recipes for CIFAR leave colours alone, and so do the tables of the small networks that were made for it.
COLOUR: Part = MappingProxyType({"jitter": FloatDistribution(0.0, 0.5)})
NO_COLOUR: Recipe = MappingProxyType({"jitter": 0.0})


def policies(*, magnitude: float = 15.0) -> Part:
    """Colour and shape policies; `magnitude` bounds RandAugment, whose authors use 5 for CIFAR and 9 for ImageNet."""
    return {
        "policy": CategoricalDistribution(("none", "trivial_augment", "rand_augment")),
        "policy_ops": IntDistribution(1, 3),
        "policy_magnitude": FloatDistribution(3.0, magnitude),
    }


NO_POLICY: Recipe = MappingProxyType({"policy": "none", "policy_ops": 2, "policy_magnitude": 9.0})
RAND_AUGMENT: Recipe = MappingProxyType({**NO_POLICY, "policy": "rand_augment"})
TRIVIAL_AUGMENT: Recipe = MappingProxyType({**NO_POLICY, "policy": "trivial_augment"})
CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "crop_scale": Condition("augmentation", "resized_crop_flip"),
        "policy_ops": Condition("policy", "rand_augment"),
        "policy_magnitude": Condition("policy", "rand_augment"),
    }
)


def mixing(*, erasing: float = 0.5, mixup: float = 1.0, cutmix: float = 1.0) -> Part:
    """Erased boxes and blended images, off at 0; small networks want the weak end of all three."""
    return {
        "erasing": FloatDistribution(0.0, erasing),  # 0.5 takes ResNet-20 from 7.21 to 6.73 % error (Zhong et al. 2017)
        "mixup": FloatDistribution(0.0, mixup),  # Beta(a, a): 0.2 in ImageNet recipes of CNNs, 0.8 of transformers
        "cutmix": FloatDistribution(0.0, cutmix),  # Beta(a, a), where 1 is the paper's uniform share
    }


NO_MIXING: Recipe = MappingProxyType({"erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
