"""Search spaces of the ResNets: SGD with Nesterov momentum, as everybody trains them."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import SearchSpace

RESNET_CIFAR = SearchSpace(
    distributions={
        "lr": FloatDistribution(
            0.01, 0.5, log=True
        ),  # 0.1 at batch 128; smaller batches want less, hardly below a tenth
        "weight_decay": FloatDistribution(1e-5, 2e-3, log=True),  # 1e-4 in the paper, 5e-4 in the best re-trainings
        "batch_size": CategoricalDistribution((32, 64, 128)),  # small sets need the steps that small batches give
        "warmup": FloatDistribution(0.0, 0.3),  # a share of the epochs; short runs at a high rate need it most
        "label_smoothing": FloatDistribution(0.0, 0.2),  # 0.1 is the usual value, more costs confidence
        "augmentation": CategoricalDistribution(("none", "crop", "crop_flip")),  # mirrored digits are other digits
        "erasing": FloatDistribution(0.0, 0.5),  # 7.21 -> 6.73 % error for ResNet-20 at 0.5 (Zhong et al. 2017)
        "mixup": FloatDistribution(0.0, 0.4),  # Beta(a, a): strong mixing hurts networks this small
    },
    baseline={  # He et al. 2015, section 4.2: CIFAR-10, 8.75 % error for ResNet-20
        "lr": 0.1,
        "weight_decay": 1e-4,
        "batch_size": 128,
        "warmup": 0.0,
        "label_smoothing": 0.0,
        "augmentation": "crop_flip",
        "erasing": 0.0,
        "mixup": 0.0,
    },
    # 64,000 steps, a tenth of the rate from 32,000 and from 48,000 on
    fixed={
        "optimizer": "sgd",
        "momentum": 0.9,
        "schedule": "step",
        "step_start": 0.5,
        "step_every": 0.25,
        "step_gamma": 0.1,
    },
)

RESNET = SearchSpace(
    distributions={
        **RESNET_CIFAR.distributions,
        "mixup": FloatDistribution(0.0, 1.0),  # forty times the parameters stand stronger mixing
    },
    # github.com/kuangliu/pytorch-cifar: 93.02 % for ResNet-18 on CIFAR-10 (200 epochs, cosine)
    baseline={**RESNET_CIFAR.baseline, "weight_decay": 5e-4},
    fixed={"optimizer": "sgd", "momentum": 0.9, "schedule": "cosine"},
)
