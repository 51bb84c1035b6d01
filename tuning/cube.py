"""A search space as a cube: a configuration is a point with one coordinate in [0, 1] for each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import contains

Config = dict[str, Any]
Array = NDArray[np.float64]


class Cube:
    """Turns configurations into points and back; points are rows, coordinates in the order of `distributions`.

    A hyperparameter under a condition is left out of configurations that do not meet it; its coordinate is then free.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution], conditions: Mapping[str, tuple[str, Any]] | None = None
    ) -> None:
        self.distributions, self.conditions = dict(distributions), dict(conditions or {})

    def active(self, config: Mapping[str, Any]) -> Config:
        """`config` without what its own choices rule out."""
        unmet = {name for name, (choice, value) in self.conditions.items() if config[choice] != value}
        return {name: value for name, value in config.items() if name not in unmet}

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether the configuration is one of this space."""
        if set(config) - set(self.distributions) or any(choice not in config for choice, _ in self.conditions.values()):
            return False
        names = set(self.active(dict.fromkeys(self.distributions) | dict(config)))
        return set(config) == names and all(contains(self.distributions[name], config[name]) for name in names)

    def point(self, config: Mapping[str, Any]) -> Array:
        """Where a configuration lies; what it leaves out lies in the middle."""
        return np.array([_coordinate(d, config[n]) if n in config else 0.5 for n, d in self.distributions.items()])

    def config(self, point: Array) -> Config:
        """The configuration at a point, or the nearest where only steps or choices are allowed."""
        pairs = zip(self.distributions.items(), point.tolist(), strict=True)
        return self.active({name: _value(distribution, x) for (name, distribution), x in pairs})

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points drawn uniformly."""
        return rng.random((count, len(self.distributions)))

    def moved(self, points: Array, deviation: float, share: float, rng: np.random.Generator) -> Array:
        """Points near those given: a `share` of their coordinates moved by steps of `deviation`, choices drawn anew."""
        steps = np.clip(points + rng.normal(0.0, deviation, points.shape), 0.0, 1.0)
        steps[:, self._choices] = rng.random((len(points), len(self._choices)))
        return np.where(rng.random(points.shape) < share, steps, points)

    def features(self, points: Array) -> Array:
        """Points as a model sees them: choices as indicators, what is left out in the middle, and so all alike."""
        columns = []
        for column, (name, distribution) in enumerate(self.distributions.items()):
            values = points[:, column]
            if isinstance(distribution, CategoricalDistribution):
                columns.append(_indicators(values, len(distribution.choices)))
                continue
            if name in self.conditions:
                values = np.where(self._met(points, name), values, 0.5)
            columns.append(values[:, None])
        return np.concatenate(columns, axis=1)

    @cached_property
    def _choices(self) -> list[int]:
        found = enumerate(self.distributions.values())
        return [column for column, distribution in found if isinstance(distribution, CategoricalDistribution)]

    def _met(self, points: Array, name: str) -> NDArray[np.bool_]:
        choice, value = self.conditions[name]
        choices = self.distributions[choice].choices  # type: ignore[attr-defined]
        place = points[:, list(self.distributions).index(choice)]
        met: NDArray[np.bool_] = _picked(place, len(choices)) == choices.index(value)
        return met


def _coordinate(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.choices.index(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    if low == high:
        return 0.5
    return float(np.log(value / low) / np.log(high / low) if distribution.log else (value - low) / (high - low))


def _value(distribution: BaseDistribution, x: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(_picked(np.array(x), len(distribution.choices)))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    value = low * (high / low) ** x if distribution.log else low + x * (high - low)
    if distribution.step:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    return min(max(value, distribution.low), distribution.high)


def _bounds(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Half a step beyond both ends of whole numbers, so that these are as likely as any other."""
    if isinstance(distribution, IntDistribution):
        return distribution.low - distribution.step / 2, distribution.high + distribution.step / 2
    return distribution.low, distribution.high


def _picked(x: Array, count: int) -> NDArray[np.int64]:
    return np.minimum((x * count).astype(np.int64), count - 1)


def _indicators(x: Array, count: int) -> Array:
    """Two different choices lie at distance 1 from one another."""
    indicators: Array = np.eye(count)[_picked(x, count)] / np.sqrt(2)
    return indicators
