"""Search spaces: what may vary for an architecture, between which bounds, and the published recipe to start from."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from search_spaces import limits

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TABLES = (  # the modules here that hold a dict SPACES: architecture -> SearchSpace
    "alexnet", "vgg", "inception", "resnet", "densenet", "mobilenet", "efficientnet", "transformer",
)  # fmt: skip
ANY_MODEL = "timm:"  # before names of architectures that nobody wrote a table for


class Condition(NamedTuple):
    """A hyperparameter is searched only where the choice `name` takes `value`."""

    name: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """`distributions` is searched from `baseline` on, key for key; `fixed` completes every configuration.

    A hyperparameter with an entry in `conditions` is left out of the configurations that do not meet it.
    """

    distributions: Mapping[str, BaseDistribution]
    baseline: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)

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
        for name, (choice, value) in self.conditions.items():
            if name not in self.distributions:
                raise ValueError(f"{name} has a condition but is not searched")
            choices = getattr(self.distributions.get(choice), "choices", ())
            if value not in choices or choice in self.conditions:
                raise ValueError(f"{name} is searched where {choice}={value!r}, but {choice} cannot take that value")

    def active(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` without the hyperparameters whose condition it does not meet."""
        unmet = {name for name, (choice, value) in self.conditions.items() if config[choice] != value}
        return {name: value for name, value in config.items() if name not in unmet}

    def fitting(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """What this space searches of a configuration of another space; None if it could not have come from this one.

        The configuration must name all that the two spaces do not have in common.
        """
        if any(name in config and config[name] != value for name, value in self.fixed.items()):
            return None
        part = self.active({name: config.get(name) for name in self.distributions})
        if not set(config) <= {*self.distributions, *self.fixed}:
            return None
        return part if all(contains(self.distributions[name], value) for name, value in part.items()) else None

    def describe(self, name: str) -> str:
        """The values that a hyperparameter may take, in words."""
        if name in self.fixed:
            return f"always {short(self.fixed[name])}"
        if name not in self.distributions:
            return "nothing"
        where = " where {} is {}".format(*self.conditions[name]) if name in self.conditions else ""
        distribution = self.distributions[name]
        if choices := getattr(distribution, "choices", None):
            return " | ".join(map(short, choices)) + where
        low, high, log = (getattr(distribution, key) for key in ("low", "high", "log"))
        return f"{short(low)} .. {short(high)}{', log' if log else ''}{where}"

    @property
    def recipe(self) -> dict[str, Any]:
        """The whole baseline configuration, fixed values included."""
        return {**self.fixed, **self.active(self.baseline)}


def names() -> list[str]:
    """Every architecture with a search space of its own."""
    return sorted(name for table in TABLES for name in _spaces(table))


def for_model(name: str, *, task: Literal["single", "multi"] = "single") -> SearchSpace:
    """The search space of an architecture; a `ValueError` that lists the known ones if it has none."""
    if task != "single":
        raise ValueError(f"no search space for the task {task!r}; there are spaces for: single")
    if name.startswith(ANY_MODEL):
        return _spaces("generic")[ANY_MODEL]
    for table in TABLES:
        if name in _spaces(table):
            return _spaces(table)[name]
    raise ValueError(f"no search space for {name!r}; there is one for: {', '.join(names())}")


def from_file(path: str | Path, base: SearchSpace) -> SearchSpace:
    """`base` with the changes of a YAML file: it narrows, widens, fixes or adds hyperparameters.

    Each key is a hyperparameter, its value a single value (fixed), a list (choices) or a mapping of low, high and log;
    `when: {CHOICE: VALUE}` in a mapping searches it only there. A baseline value outside of its new range moves to the
    nearest one inside.

    Raises:
        ValueError: naming file, line and key.
    """
    from search_spaces.override import read_file

    return read_file(Path(path), base)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a hyperparameter may take the value; False also for what is no value of its kind."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False


def short(value: object) -> str:
    """A hyperparameter's value in a table."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _spaces(table: str) -> Mapping[str, SearchSpace]:
    spaces: Mapping[str, SearchSpace] = importlib.import_module(f"search_spaces.{table}").SPACES
    return spaces
