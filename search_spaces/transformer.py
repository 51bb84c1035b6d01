"""Search spaces of ViT, Swin and ConvNeXt: AdamW, a long warm-up and strong augmentation."""

from dataclasses import replace

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import SearchSpace
from search_spaces.parts import (
    COLOUR,
    CONDITIONS,
    GENERAL,
    NO_COLOUR,
    NO_MIXING,
    PLAIN,
    RAND_AUGMENT,
    TRIVIAL_AUGMENT,
    batches,
    mixing,
    policies,
    scaled,
)

VIT = SearchSpace(
    distributions={
        "lr": FloatDistribution(5e-5, 3e-3, log=True),  # from DeiT's at this batch size to what small images take
        "weight_decay": FloatDistribution(1e-3, 0.3, log=True),  # decoupled: 0.05 in DeiT, 0.3 in the first paper
        "drop_path": FloatDistribution(0.0, 0.3),  # 0.1 for the base model; dropout itself stays off
        "clip_norm": CategoricalDistribution((0.0, 1.0)),  # 1 in the first paper, none in DeiT
        **batches(64, 128),
        **GENERAL,
        **COLOUR,
        **policies(),
        **mixing(),
    },
    # DeiT (arXiv:2012.12877), table 9: rate 5e-4 at batch 512, 5 of 300 epochs of warm-up; 79.8 % for the small one
    baseline={
        "lr": scaled(5e-4, 512, to=128),
        "weight_decay": 0.05,
        "drop_path": 0.1,
        "clip_norm": 0.0,
        "batch_size": 128,
        **PLAIN,
        **NO_COLOUR,
        "warmup": 5 / 300,
        "label_smoothing": 0.1,
        **RAND_AUGMENT,
        **NO_MIXING,
        "erasing": 0.25,
        "mixup": 0.8,
        "cutmix": 1.0,
    },
    fixed={"optimizer": "adamw", "schedule": "cosine"},
    conditions=CONDITIONS,
)

# github.com/omihub777/ViT-CIFAR: Adam at 1e-3 and batch 128, 5 of 200 epochs of warm-up; RandAugment stands in for its
# AutoAugment, decoupled decay for its L2 penalty of 5e-5; 90.92 % on CIFAR-10
VIT_CIFAR = replace(
    VIT,
    baseline={
        **VIT.baseline,
        "lr": 1e-3,
        "weight_decay": 0.05,
        "drop_path": 0.0,
        "warmup": 5 / 200,
        **NO_MIXING,
    },
)

# torchvision's references/classification: rate 1e-3 at batch 1024, 20 of 300 epochs of warm-up, TrivialAugment,
# erasing 0.25, mixup 0.8, cutmix 1; 81.47 %
SWIN = replace(
    VIT,
    baseline={
        **VIT.baseline,
        "lr": scaled(1e-3, 1024, to=128),
        "drop_path": 0.2,
        "clip_norm": 1.0,
        "warmup": 20 / 300,
        **TRIVIAL_AUGMENT,
    },
)

# torchvision's references/classification: rate 1e-3 at batch 1024, 5 of 600 epochs of warm-up, TrivialAugment,
# erasing 0.1, mixup 0.2, cutmix 1; 82.52 %
CONVNEXT = replace(
    VIT,
    baseline={
        **VIT.baseline,
        "lr": scaled(1e-3, 1024, to=128),
        "warmup": 5 / 600,
        **TRIVIAL_AUGMENT,
        "erasing": 0.1,
        "mixup": 0.2,
    },
)

SPACES = {
    **dict.fromkeys(("vit_tiny_16", "vit_small_16", "vit_b_16", "vit_b_32", "vit_l_16"), VIT),
    "vit_cifar": VIT_CIFAR,
    "swin_t": SWIN,
    "convnext_tiny": CONVNEXT,
}
