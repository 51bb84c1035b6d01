"""What moves the weights of a training: its optimiser, and the running average of the weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from tuning.spec import HParams


def make_optimizer(model: nn.Module, hparams: HParams) -> Optimizer:
    """The optimiser that `hparams` names; norms and biases do not decay."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": hparams.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if hparams.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=hparams.lr, momentum=hparams.momentum, nesterov=hparams.momentum > 0)
    if hparams.optimizer == "rmsprop":  # decay and, by default, epsilon as in the EfficientNet paper's code
        eps = 1e-3 if hparams.eps is None else hparams.eps
        return torch.optim.RMSprop(groups, lr=hparams.lr, alpha=0.9, eps=eps, momentum=hparams.momentum)
    kind = torch.optim.AdamW if hparams.optimizer == "adamw" else torch.optim.Adam
    eps = 1e-8 if hparams.eps is None else hparams.eps
    return kind(groups, lr=hparams.lr, betas=(hparams.momentum, 0.999), eps=eps)


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Moves `averaged` towards `model`: by more after few steps, so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)
    for old, new in zip(averaged.buffers(), model.buffers(), strict=True):
        old.copy_(new)
