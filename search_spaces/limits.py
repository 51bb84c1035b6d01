"""Every hyperparameter there is, with the values that make sense for it at all; a search space lies within them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number between two bounds, `low` itself being excluded where `open` is set."""

    low: float
    high: float
    kind: type[int] | type[float] = float
    open: bool = False

    def check(self, value: Any) -> Any:
        """`value` as this kind of number, or a `ValueError` that says what is allowed."""
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if fits and self.kind is int:
            fits = value == int(value)
        if not fits or not self.low <= value <= self.high or (self.open and value == self.low):
            what = "a whole number" if self.kind is int else "a number"
            raise ValueError(
                f"must be {what} {'above' if self.open else 'from'} {self.low:g} to {self.high:g}, got {value!r}"
            )
        return self.kind(value)


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    values: tuple[str, ...]

    def check(self, value: Any) -> Any:
        """`value` itself, or a `ValueError` that lists the names."""
        if value not in self.values:
            raise ValueError(f"must be one of {', '.join(self.values)}, got {value!r}")
        return value


LIMITS: Mapping[str, Number | Choice] = MappingProxyType(
    {
        "optimizer": Choice(("sgd", "adam", "adamw", "rmsprop")),
        "lr": Number(low=0, high=100, open=True),
        "momentum": Number(low=0, high=0.9999),
        "eps": Number(low=0, high=10, open=True),
        "weight_decay": Number(low=0, high=10),
        "batch_size": Number(low=2, high=65536, kind=int),
        "schedule": Choice(("cosine", "linear", "step", "plateau")),
        "warmup": Number(low=0, high=0.9),
        "step_start": Number(low=0, high=1),
        "step_every": Number(low=0, high=1, open=True),
        "step_gamma": Number(low=0, high=1, open=True),
        "plateau_patience": Number(low=0, high=10000, kind=int),
        "label_smoothing": Number(low=0, high=0.9),
        "clip_norm": Number(low=0, high=1e6),
        "ema_decay": Number(low=0, high=0.99999),
        "aux_weight": Number(low=0, high=1),
        "augmentation": Choice(("none", "crop", "crop_flip", "resized_crop_flip")),
        "crop_scale": Number(low=0.05, high=1),
        "jitter": Number(low=0, high=2),
        "policy": Choice(("none", "rand_augment", "trivial_augment")),
        "policy_ops": Number(low=1, high=14, kind=int),
        "policy_magnitude": Number(low=0, high=30),
        "erasing": Number(low=0, high=1),
        "cutout": Number(low=0, high=1),
        "mixup": Number(low=0, high=10),
        "cutmix": Number(low=0, high=10),
        "init": Choice(("he", "glorot", "normal")),
        "dropout": Number(low=0, high=0.95),
        "dropout2d": Number(low=0, high=0.95),
        "drop_path": Number(low=0, high=0.95),
        "norm": Choice(("batch", "none")),
        "stem": Choice(("auto", "stock", "small", "small_pool")),
        "head_width": Number(low=0, high=65536, kind=int),
        "se_ratio": Number(low=1, high=1024, kind=int),
        "growth_rate": Number(low=1, high=1024, kind=int),
        "width": Number(low=0, high=16, open=True),
        "groups": Number(low=1, high=2, kind=int),
    }
)
MODEL_OPTIONS = (  # those that concern how an architecture is built, each known to some architectures only
    "init", "dropout", "dropout2d", "drop_path", "norm", "stem", "head_width", "se_ratio", "growth_rate", "width",
    "groups",
)  # fmt: skip


def check(name: str, value: Any) -> Any:
    """`value` in the type of the hyperparameter `name`; a `ValueError` that names both if it cannot be."""
    if name not in LIMITS:
        raise ValueError(f"unknown hyperparameter {name!r}; known: {', '.join(LIMITS)}")
    try:
        return LIMITS[name].check(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
