"""Search spaces: what may vary for an architecture, between which bounds, and the published recipe to start from."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search_spaces import limits

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TABLES = {  # architecture -> module and name of its table
    "efficientnet_b0": ("efficientnet", "EFFICIENTNET"),
    "resnet18": ("resnet", "RESNET"),
    "resnet20": ("resnet", "RESNET_CIFAR"),
}


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """`distributions` is searched from `baseline` on, key for key; `fixed` completes every configuration."""

    distributions: Mapping[str, BaseDistribution]
    baseline: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.distributions) != set(self.baseline):
            difference = ", ".join(sorted(set(self.distributions) ^ set(self.baseline)))
            raise ValueError(f"distributions and baseline must have the same keys, they differ in {difference}")
        if both := sorted(set(self.distributions) & set(self.fixed)):
            raise ValueError(f"a hyperparameter is either searched or fixed, both: {', '.join(both)}")
        for name, value in {**self.baseline, **self.fixed}.items():
            limits.check(name, value)
        for name, distribution in self.distributions.items():
            if not distribution._contains(distribution.to_internal_repr(self.baseline[name])):
                raise ValueError(f"the baseline's {name}={self.baseline[name]!r} lies outside of {distribution}")

    @property
    def recipe(self) -> dict[str, Any]:
        """The whole baseline configuration, fixed values included."""
        return {**self.fixed, **self.baseline}


def for_model(name: str, *, task: Literal["single", "multi"] = "single") -> SearchSpace:
    """The search space of an architecture; a `ValueError` that lists the known ones if it has none."""
    if name not in TABLES:
        raise ValueError(f"no search space for {name!r}; there is one for: {', '.join(sorted(TABLES))}")
    if task != "single":
        raise ValueError(f"no search space for the task {task!r}; there are spaces for: single")
    module, table = TABLES[name]
    space: SearchSpace = getattr(importlib.import_module(f"search_spaces.{module}"), table)
    return space


def from_file(path: str | Path, base: SearchSpace) -> SearchSpace:
    """`base` with the changes of a YAML file: it narrows, widens, fixes or adds hyperparameters.

    Each key is a hyperparameter, its value a single value (fixed), a list (choices) or a mapping of low, high and log.
    A baseline value outside of its new range moves to the nearest one inside.

    Raises:
        ValueError: naming file, line and key.
    """
    from search_spaces.override import read_file

    return read_file(Path(path), base)
