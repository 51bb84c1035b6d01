"""Search space of the EfficientNets: RMSprop at rates that fit batches of tens of images, not thousands."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import SearchSpace

EFFICIENTNET = SearchSpace(
    distributions={
        "lr": FloatDistribution(
            2e-4, 5e-3, log=True
        ),  # the paper's at the top: hundreds of steps on digits want a tenth
        "weight_decay": FloatDistribution(1e-6, 1e-3, log=True),  # 1e-5 in the paper; small sets stand more
        "batch_size": CategoricalDistribution((32, 64)),  # small sets need the steps that small batches give
        "warmup": FloatDistribution(0.0, 0.3),  # a share of the epochs; 5 of 350 in the paper, short runs need more
        "label_smoothing": FloatDistribution(0.0, 0.2),  # the paper's 0.1 in the middle
        "dropout": FloatDistribution(0.0, 0.5),  # 0.2 for B0, 0.5 for B7
        "drop_path": FloatDistribution(0.0, 0.2),  # 0.2 in the paper; short runs want less
        "augmentation": CategoricalDistribution(("none", "crop", "crop_flip")),  # mirrored digits are other digits
        "erasing": FloatDistribution(0.0, 0.3),  # timm's recipe erases with probability 0.2
        "mixup": FloatDistribution(0.0, 0.2),  # Beta(a, a); 0.2 is what ImageNet recipes use
        "ema_decay": CategoricalDistribution((0.0, 0.99, 0.999)),  # the paper's 0.9999 averages over 10,000 steps
    },
    # Tan and Le 2019, section 5.2, and their released code: rate 0.256 at batch 4096, which is 0.004 at batch 64.
    # Its AutoAugment is left to crop_flip, its moving average to 0.999, because a study here takes hundreds of steps.
    baseline={
        "lr": 0.004,
        "weight_decay": 1e-5,
        "batch_size": 64,
        "warmup": 5 / 350,
        "label_smoothing": 0.1,
        "dropout": 0.2,
        "drop_path": 0.2,
        "augmentation": "crop_flip",
        "erasing": 0.0,
        "mixup": 0.0,
        "ema_decay": 0.999,
    },
    # x 0.97 every 2.4 of 350 epochs
    fixed={
        "optimizer": "rmsprop",
        "momentum": 0.9,
        "schedule": "step",
        "step_start": 2.4 / 350,
        "step_every": 2.4 / 350,
        "step_gamma": 0.97,
    },
)
