"""Swin Transformer, tiny (Liu et al. 2021, https://arxiv.org/abs/2103.14030), as torchvision has it."""

from typing import Any

from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

from models.stems import SMALL_IMAGE


def build(name: str, *, num_classes: int, image_size: int, drop_path: float = 0.2, **options: Any) -> nn.Module:
    """Small images are cut into patches of half the side, which leaves the first stage more than one window."""
    patch = 2 if image_size < SMALL_IMAGE else 4
    network: nn.Module = SwinTransformer(
        patch_size=[patch, patch],
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[7, 7],
        stochastic_depth_prob=drop_path,
        num_classes=num_classes,
        **options,
    )
    return network
