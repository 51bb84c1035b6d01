"""Search spaces of the ResNets and their kin: SGD with Nesterov momentum, as everybody trains them."""

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
    steps,
)

COSINE = {**SGD, "schedule": "cosine"}

RESNET_CIFAR = SearchSpace(
    distributions={
        # 0.1 at batch 128; smaller batches want less, hardly below a tenth
        "lr": FloatDistribution(0.01, 0.5, log=True),
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),  # 1e-4 in the paper, 5e-4 in the best re-trainings
        **batches(32, 64, 128),
        **GENERAL,
        **policies(magnitude=9.0),  # strong policies cost ResNet-20 two points on CIFAR-100 and give ResNet-56 three
        **mixing(mixup=0.4, cutmix=0.5),  # strong mixing hurts networks this small
    },
    baseline={  # He et al. 2015, section 4.2: CIFAR-10, 8.75 % error for ResNet-20
        "lr": 0.1,
        "weight_decay": 1e-4,
        "batch_size": 128,
        **PLAIN,
        **NO_POLICY,
        **NO_MIXING,
    },
    # 64,000 steps, a tenth of the rate from 32,000 and from 48,000 on
    fixed={**SGD, **steps(0.5, 0.25)},
    conditions=CONDITIONS,
)

# The same section lets ResNet-110 begin at 0.01 until it trains better than chance: 400 of its 64,000 steps.
RESNET110 = replace(RESNET_CIFAR, baseline={**RESNET_CIFAR.baseline, "warmup": 400 / 64_000})

RESNET_CIFAR_B = replace(
    RESNET_CIFAR,
    # github.com/chenyaofo/pytorch-cifar-models: 0.1 at batch 256, 92.60 % for ResNet-20 in 200 epochs
    baseline={**RESNET_CIFAR.baseline, "lr": 0.05, "weight_decay": 5e-4},
    fixed=COSINE,
)

RESNET = replace(
    RESNET_CIFAR,
    distributions={
        **RESNET_CIFAR.distributions,
        **COLOUR,
        **policies(),  # forty times the parameters stand stronger policies and mixing
        **mixing(),
    },
    # github.com/kuangliu/pytorch-cifar: 93.02 % for ResNet-18 on CIFAR-10 (200 epochs, cosine)
    baseline={**RESNET_CIFAR.baseline, **NO_COLOUR, "weight_decay": 5e-4},
    fixed=COSINE,
)

WIDE_RESNET = replace(
    RESNET,
    distributions={
        **RESNET.distributions,
        "dropout": FloatDistribution(0.0, 0.4),  # 0.3 between the convolutions of a block in the paper
    },
    # Mueller and Hutter 2021 (arXiv:2103.10158): rate 0.1, cosine, 200 epochs, cutout of half the side, TrivialAugment;
    # 97.46 % for WRN-28-10 on CIFAR-10. Both are left out of the first trial, because short runs lose by them.
    baseline={**RESNET.baseline, "dropout": 0.0},
    fixed=COSINE,
)

DEPTHS = (18, 34, 50, 101, 152)
CIFAR_DEPTHS = (20, 32, 44, 56)
SPACES = {
    **{f"{kind}{depth}": RESNET for kind in ("resnet", "se_resnet", "preact_resnet") for depth in DEPTHS},
    **{f"{kind}{depth}": RESNET_CIFAR for kind in ("resnet", "se_resnet", "plain") for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}_b": RESNET_CIFAR_B for depth in (*CIFAR_DEPTHS, 110)},
    **dict.fromkeys(("resnet110", "se_resnet110"), RESNET110),
    **dict.fromkeys(("wrn_16_4", "wrn_16_8", "wrn_28_10", "wrn_40_2", "wrn_40_4"), WIDE_RESNET),
}
