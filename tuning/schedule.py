"""Learning-rate schedules as pure functions of how far a training has come."""

import math
from collections.abc import Sequence

from tuning.spec import HParams


def lr_factor(hparams: HParams, progress: float, val_losses: Sequence[float]) -> float:
    """What the peak rate is multiplied by at `progress` (the share of all steps done, 0 <= progress < 1).

    `val_losses`, one per finished epoch, only matter to the plateau schedule.
    """
    if progress < hparams.warmup:
        return progress / hparams.warmup
    after_warmup = (progress - hparams.warmup) / (1 - hparams.warmup)
    if hparams.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * after_warmup))
    if hparams.schedule == "linear":
        return 1 - after_warmup
    if hparams.schedule == "step":
        return float(hparams.step_gamma ** drops(progress, hparams.step_start, hparams.step_every))
    return float(hparams.step_gamma ** plateaus(val_losses, hparams.plateau_patience))


def drops(progress: float, start: float, every: float) -> int:
    """How often a step schedule has dropped: first at `start`, then each `every`."""
    return 0 if progress < start else 1 + math.floor((progress - start) / every + 1e-9)


def plateaus(losses: Sequence[float], patience: int) -> int:
    """How often the loss went more than `patience` epochs in a row without a new minimum."""
    count, waited, best = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited > patience:
            count, waited = count + 1, 0
    return count
