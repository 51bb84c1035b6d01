"""Search spaces of the EfficientNets: RMSprop at rates that fit batches of tens of images, not thousands."""

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
    batches,
    mixing,
    policies,
    scaled,
    steps,
)

EFFICIENTNET_B0 = SearchSpace(
    distributions={
        # the paper's at the top: hundreds of steps on digits want a tenth
        "lr": FloatDistribution(2e-4, 5e-3, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-3, log=True),  # 1e-5 in the paper; small sets stand more
        "dropout": FloatDistribution(0.0, 0.5),  # 0.2 for B0, 0.5 for B7
        "drop_path": FloatDistribution(0.0, 0.2),  # 0.2 in the paper; short runs want less
        "ema_decay": CategoricalDistribution((0.0, 0.99, 0.999)),  # the paper's 0.9999 averages over 10,000 steps
        **batches(32, 64),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(erasing=0.3, mixup=0.2),  # timm's recipe erases with probability 0.2; 0.2 is what ImageNet recipes mix
    },
    # Tan and Le 2019, section 5.2, and their released code: rate 0.256 at batch 4096. Its AutoAugment is left to
    # crop_flip, its moving average to 0.999, because a study here takes hundreds of steps.
    baseline={
        "lr": scaled(0.256, 4096, to=64),
        "weight_decay": 1e-5,
        "dropout": 0.2,
        "drop_path": 0.2,
        "ema_decay": 0.999,
        "batch_size": 64,
        **PLAIN,
        **NO_COLOUR,
        "warmup": 5 / 350,
        "label_smoothing": 0.1,
        **NO_POLICY,
        **NO_MIXING,
    },
    # x 0.97 every 2.4 of 350 epochs
    fixed={**RMSPROP, **steps(2.4 / 350, 2.4 / 350, factor=0.97)},
    conditions=CONDITIONS,
)

DROPOUT = (0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5)  # of B0 to B7, table 2 of the released code
SPACES = {
    f"efficientnet_b{index}": replace(EFFICIENTNET_B0, baseline={**EFFICIENTNET_B0.baseline, "dropout": dropout})
    for index, dropout in enumerate(DROPOUT)
}
