"""Search spaces of the DenseNets: SGD with little weight decay."""

from dataclasses import replace

from optuna.distributions import FloatDistribution

from search_spaces import SearchSpace
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

DENSENET_CIFAR = SearchSpace(
    distributions={
        "lr": FloatDistribution(0.01, 0.4, log=True),  # 0.1 at batch 64; smaller batches want less
        # 1e-4 in the paper; 5e-4 costs DenseNet-BC 1.4 points on CIFAR-10
        "weight_decay": FloatDistribution(1e-5, 1e-3, log=True),
        "dropout": FloatDistribution(0.0, 0.3),  # 0.2 after each convolution in the paper, where nothing augments
        **batches(32, 64),
        **GENERAL,
        **policies(),
        **mixing(mixup=0.4),  # a million parameters: the weak end
    },
    # Huang et al. 2016, section 4.2: rate 0.1 at batch 64, a tenth of it from 50 and from 75 % of 300 epochs on
    baseline={
        "lr": 0.1,
        "weight_decay": 1e-4,
        "dropout": 0.0,
        "batch_size": 64,
        **PLAIN,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={**SGD, **steps(0.5, 0.25)},
    conditions=CONDITIONS,
)

DENSENET = replace(
    DENSENET_CIFAR,
    distributions={**DENSENET_CIFAR.distributions, **COLOUR},
    # the same section for ImageNet: rate 0.1 at batch 256, a tenth of it from epoch 30 and from epoch 60 of 90 on
    baseline={**DENSENET_CIFAR.baseline, **NO_COLOUR, "lr": scaled(0.1, 256, to=64)},
    fixed={**SGD, **steps(1 / 3, 1 / 3)},
)

SPACES = {
    **dict.fromkeys(("densenet_40_12", "densenet_100_12", "densenet_bc_100_12"), DENSENET_CIFAR),
    **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), DENSENET),
}
