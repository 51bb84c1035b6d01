"""Architectures by name: `names()` lists them, `build()` makes one for a number of classes and an image size.

`python -m models` prints them all. Nothing here imports torch until a model is built, so that listing stays instant.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from models.registry import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm:"  # before the name of one of timm's architectures
INIT = "init"  # the option that every architecture has


def names() -> list[str]:
    """Every architecture that `build` knows by name; `timm:NAME` reaches those of timm besides."""
    return sorted(ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """The registry entry of `name`; a `ValueError` that lists the known names if there is none."""
    if name.startswith(TIMM):
        return _timm_entry(name)
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"unknown model {name!r}; {hint}known models: {', '.join(names())}, or timm:NAME")
    return ARCHITECTURES[name]


def build(name: str, *, num_classes: int, image_size: int, in_channels: int = 3, **overrides: Any) -> nn.Module:
    """A freshly initialised network: (B, in_channels, image_size, image_size) float -> (B, num_classes) logits.

    `in_channels` is 1 or 3. `overrides` are the architecture's own options, such as `dropout`, and `init`, another way
    to draw the first weights. With `aux=True` a network with auxiliary heads gives a tuple of logits in training
    mode, those of its end first.

    Raises:
        ValueError: an unknown name, an image size that it cannot take, or an option it does not have.
    """
    entry = architecture(name)
    _check(name, entry, image_size, in_channels, overrides)
    from models.stems import initialise, take_grey

    scheme = overrides.pop(INIT, None)
    module = importlib.import_module(f"models.{entry.module}")
    own_name = name.removeprefix(TIMM)
    network: nn.Module = module.build(own_name, num_classes=num_classes, image_size=image_size, **overrides)
    if scheme is not None:
        initialise(network, scheme)
    if in_channels == 1:
        take_grey(network)
    return network


def check(name: str, *, image_size: int, in_channels: int = 3, options: Iterable[str] = ()) -> None:
    """Raises the `ValueError` of `build` before anything is built."""
    _check(name, architecture(name), image_size, in_channels, options)
    if name.startswith(TIMM):
        from models import timm_models

        timm_models.check(name.removeprefix(TIMM), image_size=image_size)


def _check(name: str, entry: Architecture, image_size: int, in_channels: int, options: Iterable[str]) -> None:
    if not entry.fits(image_size):
        multiple = f" and a multiple of {entry.multiple} px" if entry.multiple > 1 else ""
        raise ValueError(
            f"{name} needs images of at least {entry.min_size} px{multiple}, got {image_size}: "
            f"{_others(entry.family, image_size)} or image_size={entry.fitting_size(image_size)}"
        )
    if in_channels not in (1, 3):
        raise ValueError(f"{name} takes images of 1 or 3 channels, got {in_channels}")
    if unknown := sorted(set(options) - {*entry.options, INIT}):
        known = ", ".join((*entry.options, INIT))
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has: {known}")


def _others(family: str, image_size: int) -> str:
    """Architectures for such images, those of the family first."""
    fitting = [other for other in names() if ARCHITECTURES[other].fits(image_size)]
    related = [other for other in fitting if ARCHITECTURES[other].family == family]
    small = [other for other in fitting if ARCHITECTURES[other].native_size == 32]
    return f"take {' or '.join((related or small or fitting)[:3])}," if fitting else "take"


def _timm_entry(name: str) -> Architecture:
    from models import timm_models

    min_size, native_size = timm_models.sizes(name.removeprefix(TIMM))
    return Architecture(
        module="timm_models",
        family="timm",
        year=None,
        paper="github.com/huggingface/pytorch-image-models",
        min_size=min_size,
        native_size=native_size,
        options=tuple(timm_models.OPTIONS),
    )
