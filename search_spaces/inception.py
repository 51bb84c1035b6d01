"""Search spaces of the Inceptions: SGD for GoogLeNet, RMSprop with a large epsilon for its successors."""

from dataclasses import replace

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import SearchSpace
from search_spaces.parts import (
    COLOUR,
    CONDITIONS,
    GENERAL,
    NO_COLOUR,
    NO_MIXING,
    NO_POLICY,
    PLAIN,
    RMSPROP,
    SGD,
    batches,
    mixing,
    policies,
    steps,
)

GOOGLENET = SearchSpace(
    distributions={
        "lr": FloatDistribution(0.01, 0.3, log=True),  # 0.1 at batch 128 with batch normalisation
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),  # 5e-4 on small images
        "dropout": FloatDistribution(0.0, 0.5),  # the paper's 0.4 near the top, torchvision's 0.2
        "aux_weight": CategoricalDistribution((0.0, 0.3)),  # 0.3 in the paper, which later work found to do little
        **batches(32, 64, 128),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(),
    },
    # github.com/weiaicunzai/pytorch-cifar100: 78.03 % on CIFAR-100 in 200 epochs, a fifth of the rate from 30, 60 and
    # 80 % on; the steps here are evenly spaced, the auxiliary heads and their weight are the paper's (section 5)
    baseline={
        "lr": 0.1,
        "weight_decay": 5e-4,
        "dropout": 0.4,
        "aux_weight": 0.3,
        "batch_size": 128,
        **PLAIN,
        **NO_COLOUR,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={**SGD, **steps(0.3, 0.25, factor=0.2)},
    conditions=CONDITIONS,
)

INCEPTION = SearchSpace(
    distributions={
        "lr": FloatDistribution(0.003, 0.1, log=True),  # around 0.045; short runs may want less, hardly more than twice
        "weight_decay": FloatDistribution(1e-6, 1e-3, log=True),  # 4e-5 in the authors' code; small sets stand more
        "dropout": FloatDistribution(0.0, 0.5),  # the papers keep 0.8 of the units
        **batches(32, 64),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(),
    },
    # Szegedy et al. 2015 (arXiv:1512.00567), section 8: rate 0.045 at batch 32 on each of 50 workers, x 0.94 every two
    # of 100 epochs, epsilon 1, gradients clipped to 2, label smoothing 0.1
    baseline={
        "lr": 0.045,
        "weight_decay": 4e-5,
        "dropout": 0.2,
        "batch_size": 32,
        **PLAIN,
        **NO_COLOUR,
        "label_smoothing": 0.1,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={**RMSPROP, "eps": 1.0, "clip_norm": 2.0, **steps(0.02, 0.02, factor=0.94)},
    conditions=CONDITIONS,
)

INCEPTION_V3 = replace(
    INCEPTION,
    distributions={
        **INCEPTION.distributions,
        "aux_weight": CategoricalDistribution((0.0, 0.4)),  # 0.4 in the authors' code
    },
    baseline={**INCEPTION.baseline, "dropout": 0.2, "aux_weight": 0.4},
)

SPACES = {
    "googlenet": GOOGLENET,
    "inception_v3": INCEPTION_V3,
    **dict.fromkeys(("inception_v2", "inception_v4", "inception_resnet_v1", "inception_resnet_v2"), INCEPTION),
}
