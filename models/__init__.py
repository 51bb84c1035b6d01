"""Architectures by name: `names()` lists them, `build()` makes one for a number of classes and an image size.

Nothing here imports torch until a model is built, so that listing names stays instant.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One registry entry: its builder's module, the smallest square image (pixels) it can take, its own options."""

    module: str
    min_size: int
    options: tuple[str, ...] = ()


ARCHITECTURES = {
    "efficientnet_b0": Architecture(module="efficientnet", min_size=32, options=("dropout", "drop_path")),
    "resnet18": Architecture(module="resnet", min_size=8),
    "resnet20": Architecture(module="resnet_cifar", min_size=8),
}


def names() -> list[str]:
    """Every architecture that `build` knows."""
    return sorted(ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """The registry entry of `name`; a `ValueError` that lists the known names if there is none."""
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"unknown model {name!r}; {hint}known models: {', '.join(names())}")
    return ARCHITECTURES[name]


def build(name: str, *, num_classes: int, image_size: int, in_channels: int = 3, **overrides: Any) -> nn.Module:
    """A freshly initialised network: (B, in_channels, image_size, image_size) float -> (B, num_classes) logits.

    `overrides` are the architecture's own options, such as `dropout`.

    Raises:
        ValueError: an unknown name, an image below the architecture's smallest size, or an option it does not have.
    """
    check(name, image_size=image_size, options=overrides)
    builder = getattr(importlib.import_module(f"models.{architecture(name).module}"), name)
    module: nn.Module = builder(num_classes=num_classes, image_size=image_size, in_channels=in_channels, **overrides)
    return module


def check(name: str, *, image_size: int, options: Iterable[str] = ()) -> None:
    """Raises the `ValueError` of `build` without building anything."""
    entry = architecture(name)
    if image_size < entry.min_size:
        raise ValueError(
            f"{name} needs images of at least {entry.min_size} px, got {image_size}: {_smaller(image_size)}"
        )
    if unknown := sorted(set(options) - set(entry.options)):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(entry.options) or 'none'}")


def _smaller(image_size: int) -> str:
    fitting = [name for name in names() if ARCHITECTURES[name].min_size <= image_size]
    return f"{' or '.join(fitting)} can take {image_size} px" if fitting else "no architecture here takes that size"
