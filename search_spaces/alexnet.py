"""Search spaces of the AlexNets: without normalisation layers, SGD wants a tenth of the rate of later networks."""

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
    batches,
    mixing,
    policies,
)

ALEXNET = SearchSpace(
    distributions={
        "lr": FloatDistribution(1e-3, 5e-2, log=True),  # 0.1 diverges without normalisation layers
        "momentum": FloatDistribution(0.8, 0.98),  # trades against the rate; 0.9 in the paper
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),  # 5e-4 "was important for the model to learn"
        "schedule": CategoricalDistribution(("plateau", "cosine")),  # by hand on a plateau in the paper
        "dropout": FloatDistribution(0.0, 0.7),  # 0.5 against the many weights of the hidden layers
        **batches(32, 64, 128),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(mixup=0.4),  # strong blending needs normalisation layers and long runs to pay
    },
    # Krizhevsky et al. 2012, section 5: rate 0.01 at batch 128, a tenth of it three times on a plateau
    baseline={
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "plateau",
        "dropout": 0.5,
        "batch_size": 128,
        **PLAIN,
        **NO_COLOUR,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={"optimizer": "sgd"},
    conditions=CONDITIONS,
)

SPACES = dict.fromkeys(("alexnet", "alexnet_paper", "alexnet_cifar", "alexnet_cifar_lrn"), ALEXNET)
