"""A search space for architectures that nobody wrote one for: either optimiser, over a wide range of rates."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import ANY_MODEL, Condition, SearchSpace
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

GENERIC = SearchSpace(
    distributions={
        "optimizer": CategoricalDistribution(("sgd", "adamw")),  # convolutions like the one, transformers the other
        "lr": FloatDistribution(1e-4, 0.2, log=True),  # AdamW's at the bottom, SGD's at the top
        "momentum": FloatDistribution(0.8, 0.98),  # of SGD; AdamW's first beta stays at 0.9
        "weight_decay": FloatDistribution(1e-5, 0.1, log=True),  # SGD wants 1e-4 to 5e-4, AdamW a hundred times that
        **batches(32, 64, 128),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(),
    },
    # No recipe was published for all of timm: these are Adam's own rate and AdamW's own decay, which train most things.
    baseline={
        "optimizer": "adamw",
        "lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "batch_size": 128,
        **PLAIN,
        **NO_COLOUR,
        "warmup": 0.1,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={"schedule": "cosine"},
    conditions={**CONDITIONS, "momentum": Condition("optimizer", "sgd")},
)

SPACES = {ANY_MODEL: GENERIC}
