"""Search spaces of the MobileNets: small networks, small weight decay, rates that fall a little each epoch."""

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
    RAND_AUGMENT,
    RMSPROP,
    SGD,
    batches,
    mixing,
    policies,
    scaled,
    steps,
)

MOBILENET_V2 = SearchSpace(
    distributions={
        "lr": FloatDistribution(0.005, 0.2, log=True),  # 0.011 is ImageNet's; small images are trained with up to 0.1
        "weight_decay": FloatDistribution(1e-6, 1e-3, log=True),  # 4e-5 for ImageNet; small sets stand 5e-4
        "dropout": FloatDistribution(0.0, 0.4),  # 0.2 before the last layer
        **batches(32, 64),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(mixup=0.4),  # a few million parameters: the weak end
    },
    # torchvision's references/classification: rate 0.045 at batch 256, x 0.98 each of 300 epochs; 71.88 %
    baseline={
        "lr": scaled(0.045, 256, to=64),
        "weight_decay": 4e-5,
        "dropout": 0.2,
        "batch_size": 64,
        **PLAIN,
        **NO_COLOUR,
        **NO_POLICY,
        **NO_MIXING,
    },
    fixed={**SGD, **steps(1 / 300, 1 / 300, factor=0.98)},
    conditions=CONDITIONS,
)

# Howard et al. 2017 and its released code: the same rate and decay as its successor, hardly any dropout.
MOBILENET_V1 = replace(
    MOBILENET_V2,
    baseline={**MOBILENET_V2.baseline, "dropout": 0.001},
)

MOBILENET_V3 = replace(
    MOBILENET_V2,
    distributions={
        **MOBILENET_V2.distributions,
        "lr": FloatDistribution(2e-4, 0.02, log=True),  # RMSprop: 0.004 is the published one at this batch size
        "ema_decay": CategoricalDistribution((0.0, 0.99, 0.999)),  # the paper's 0.9999 averages over 10,000 steps
    },
    # torchvision's references/classification: rate 0.064 at batch 1024, x 0.973 every 2 of 600 epochs, erasing 0.2;
    # RandAugment stands in for its AutoAugment; 74.04 % and 67.67 %
    baseline={
        **MOBILENET_V2.baseline,
        "lr": scaled(0.064, 1024, to=64),
        "weight_decay": 1e-5,
        **RAND_AUGMENT,
        "erasing": 0.2,
        "ema_decay": 0.999,
    },
    fixed={**RMSPROP, **steps(2 / 600, 2 / 600, factor=0.973)},
)

SPACES = {
    "mobilenet_v1": MOBILENET_V1,
    "mobilenet_v2": MOBILENET_V2,
    **dict.fromkeys(("mobilenet_v3_small", "mobilenet_v3_large"), MOBILENET_V3),
}
