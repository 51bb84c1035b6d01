"""Search spaces of the VGGs: those with batch normalisation take ten times the rate of those without."""

from dataclasses import replace

from optuna.distributions import FloatDistribution

from search_spaces import SearchSpace
from search_spaces.alexnet import ALEXNET
from search_spaces.parts import (
    COLOUR,
    CONDITIONS,
    GENERAL,
    NO_COLOUR,
    NO_MIXING,
    NO_POLICY,
    PLAIN,
    SGD,
    batches,
    mixing,
    policies,
    scaled,
    steps,
)

DEPTHS = (11, 13, 16, 19)

# Simonyan and Zisserman 2014, section 3.1: rate 0.01 at batch 256, a tenth of it three times on a plateau
VGG = replace(
    ALEXNET,
    baseline={**ALEXNET.baseline, "lr": scaled(0.01, 256, to=128)},
)

VGG_BN = SearchSpace(
    distributions={
        "lr": FloatDistribution(0.005, 0.3, log=True),  # a few times around 0.05 at batch 128
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),  # 1e-4 on ImageNet, 5e-4 on small images
        "dropout": FloatDistribution(0.0, 0.6),  # 0.5 in the paper's hidden layers; less is left to do beside BN
        **batches(32, 64, 128),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(),
    },
    # torchvision's references/classification: rate 0.1 at batch 256, a tenth of it every 30 of 90 epochs;
    # 73.36 % for VGG-16
    baseline={
        "lr": scaled(0.1, 256, to=128),
        "weight_decay": 1e-4,
        "dropout": 0.5,
        "batch_size": 128,
        **PLAIN,
        **NO_COLOUR,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={**SGD, **steps(1 / 3, 1 / 3)},
    conditions=CONDITIONS,
)

VGG_BN_CIFAR = replace(
    VGG_BN,
    # github.com/kuangliu/pytorch-cifar: 0.1 at batch 128, cosine, 200 epochs; 92.64 % for VGG-16 on CIFAR-10
    baseline={**VGG_BN.baseline, "lr": 0.1, "weight_decay": 5e-4, "dropout": 0.0},
    fixed={**SGD, "schedule": "cosine"},
)

VGG_CIFAR = replace(
    ALEXNET,
    # the paper's rate, at the batch of 128 that everybody uses for CIFAR; no hidden layers, so nothing to drop
    baseline={**ALEXNET.baseline, "dropout": 0.0},
)

SPACES = {
    **{f"vgg{depth}": VGG for depth in DEPTHS},
    **{f"vgg{depth}_bn": VGG_BN for depth in DEPTHS},
    **{f"vgg{depth}_cifar": VGG_CIFAR for depth in DEPTHS},
    **{f"vgg{depth}_bn_cifar": VGG_BN_CIFAR for depth in DEPTHS},
}
