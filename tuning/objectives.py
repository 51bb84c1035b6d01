"""What a study optimises: one or several metrics, and constraints, with NSGA-II's order of trials (Deb 2002)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACCURACY = "val_accuracy"
COSTS = ("parameters", "latency_ms", "gpu_memory_mb")  # of an architecture, measured only when they are named
HIGHER_IS_BETTER = {ACCURACY: True, "val_loss": False, **dict.fromkeys(COSTS, False)}
CONSTRAINT = re.compile(r"(\w+)\s*([<>])\s*(\S+)")

RANKED = 1_000  # values of several objectives, which have to be compared pair by pair: the last of them
Value = tuple[float, ...]  # the objectives, larger being better, then minus the violation if there are constraints
Score = float | Value  # larger is better; of several objectives a value that only their merits compare


@dataclass(frozen=True)
class Constraint:
    """A metric that must stay on the better side of a limit."""

    name: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name}{'>' if HIGHER_IS_BETTER[self.name] else '<'}{self.limit:.12g}"

    def violation(self, value: float) -> float:
        """By how much of the limit `value` lies on its wrong side; 0 on the right one and on the limit, NaN for NaN."""
        excess = self.limit - value if HIGHER_IS_BETTER[self.name] else value - self.limit
        return max(excess / (abs(self.limit) or 1.0), 0.0)  # the order matters: max keeps a NaN that comes first


@dataclass(frozen=True)
class Objectives:
    """The metrics to optimise, the accuracy first, and what every acceptable trial must satisfy."""

    names: tuple[str, ...] = (ACCURACY,)
    constraints: tuple[Constraint, ...] = ()

    def __str__(self) -> str:
        return ", ".join([*self.names, *map(str, self.constraints)])

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    @property
    def plain(self) -> bool:
        """Whether scores are numbers that can be compared as they are."""
        return not self.several and not self.constraints

    @property
    def costs(self) -> tuple[str, ...]:
        """What trials have to measure besides their training."""
        named = {*self.names, *(constraint.name for constraint in self.constraints)}
        return tuple(name for name in COSTS if name in named)

    def of(self, metrics: Mapping[str, float]) -> Value:
        """What the others compare; all NaN if a metric is missing or NaN."""
        value = tuple(_oriented(name, metrics.get(name, math.nan)) for name in self.names)
        value += (-self.violation(metrics),) if self.constraints else ()
        return (math.nan,) * len(value) if any(map(math.isnan, value)) else value

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much the constraints are violated together; 0 if they are satisfied, NaN if that is not known."""
        return sum(c.violation(metrics.get(c.name, math.nan)) for c in self.constraints)

    def broken(self, metrics: Mapping[str, float]) -> str:
        """The constraints that `metrics` violate, with the values; those of other metrics are passed over."""
        return ", ".join(
            f"{c.name} {_number(metrics[c.name])} violates {c}"
            for c in self.constraints
            if c.name in metrics and c.violation(metrics[c.name])
        )

    def describe(self, value: Value) -> str:
        """A value of `of` in words."""
        shown = [f"{name} {_number(_oriented(name, v))}" for name, v in zip(self.names, value, strict=False)]
        if self.constraints and value[-1] < 0:
            shown.append("constraints violated")
        return ", ".join(shown)

    def merits(self, values: Sequence[Value]) -> list[float]:
        """A number for each value, larger being better; one unconstrained objective is its own merit.

        Otherwise by front, within a front by crowding distance; then the infeasible ones by violation. NaN: -inf.
        """
        if self.plain:
            return [-math.inf if math.isnan(value[0]) else value[0] for value in values]
        feasible, points = self._feasible(values)
        unique, inverse = np.unique(points, axis=0, return_inverse=True)
        ranks = _ranks(unique)
        merits = np.full(len(values), -math.inf)
        merits[feasible] = (_crowding(unique, ranks) / 2 - ranks)[inverse.ravel()]
        fronts = 1 + int(ranks.max(initial=-1))
        if infeasible := [i for i, value in enumerate(values) if self.constraints and value[-1] < 0]:
            _, places = np.unique([-values[i][-1] for i in infeasible], return_inverse=True)
            merits[infeasible] = -fronts - places
        return [float(merit) for merit in merits]

    def front(self, values: Sequence[Value]) -> list[int]:
        """The indices of the feasible values that no other feasible one dominates."""
        feasible, points = self._feasible(values)
        unique, inverse = np.unique(points, axis=0, return_inverse=True)
        ranks = _ranks(unique)[inverse.ravel()]
        return [index for index, rank in zip(feasible, ranks, strict=True) if rank == 0]

    def _feasible(self, values: Sequence[Value]) -> tuple[list[int], NDArray[np.float64]]:
        """Indices and objectives (N, K) of the values that satisfy all constraints."""
        wide = bool(self.constraints)
        indices = [i for i, v in enumerate(values) if not math.isnan(v[0]) and (not wide or v[-1] == 0)]
        points = np.array([values[i][: len(self.names)] for i in indices], np.float64)
        return indices, points.reshape(len(indices), len(self.names))


def leading(score: Score) -> float:
    """The number of a score that tells whether there is one: NaN or infinite after a failure."""
    return score[0] if isinstance(score, tuple) else score


def parse(objectives: str, constraints: str) -> Objectives:
    """Reads `val_accuracy,latency_ms` and `latency_ms<5,parameters<5e6`.

    Raises:
        ValueError: naming what is wrong and what may be written.
    """
    names = tuple(part.strip() for part in objectives.split(","))
    for name in names:
        if name not in HIGHER_IS_BETTER:
            raise ValueError(f"objectives: unknown metric {name!r}; known: {', '.join(HIGHER_IS_BETTER)}")
        if names.count(name) > 1:
            raise ValueError(f"objectives names {name} {names.count(name)} times; name each metric once")
    if names[0] != ACCURACY:
        raise ValueError(f"objectives must begin with {ACCURACY}, which chooses the winner, got {objectives!r}")
    limits = tuple(_constraint(part.strip()) for part in constraints.split(",")) if constraints else ()
    named = [constraint.name for constraint in limits]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"constraints limits {twice[0]} {named.count(twice[0])} times; keep the strictest")
    return Objectives(names, limits)


def _constraint(text: str) -> Constraint:
    match = CONSTRAINT.fullmatch(text)
    if not match:
        raise ValueError(f"constraints must be like latency_ms<5,{ACCURACY}>0.9, got {text!r}")
    name, sign, number = match.groups()
    if name not in HIGHER_IS_BETTER:
        raise ValueError(f"constraints: unknown metric {name!r}; known: {', '.join(HIGHER_IS_BETTER)}")
    better = ">" if HIGHER_IS_BETTER[name] else "<"
    if sign != better:
        direction = "larger" if better == ">" else "smaller"
        raise ValueError(f"constraints: {name} is better the {direction}; write {name}{better}{number}, got {text!r}")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ValueError(f"constraints: the limit of {name} must be a number, got {number!r}")
    return Constraint(name, limit)


def _number(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def _oriented(name: str, value: float) -> float:
    return float(value) if HIGHER_IS_BETTER[name] else -float(value)


def _ranks(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """The front of each of the different `points` (N, K), 0 being the best: its longest chain of better points."""
    ranks = np.zeros(len(points), np.int64)
    order = np.lexsort(points.T[::-1])[::-1]  # nobody is dominated by a later one
    rest = np.ascontiguousarray(points[order].T[1:])  # in the first objective the earlier is never worse
    found = np.zeros(len(points), np.int64)
    for place in range(1, len(points)):
        dominating = np.logical_and.reduce(rest[:, :place] >= rest[:, place : place + 1], axis=0)
        found[place] = 1 + found[:place].max(initial=-1, where=dominating)
    ranks[order] = found
    return ranks


def _crowding(points: NDArray[np.float64], ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """How lonely each point is within its front, from 0 to 1: its crowding distance d as d / (1 + d)."""
    distances = np.zeros(len(points))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        members = np.flatnonzero(ranks == rank)
        for column in points[members].T:
            order = np.argsort(column, kind="stable")
            ascending, span = column[order], np.ptp(column)
            gaps = np.full(len(members), np.inf)
            if span > 0:
                gaps[1:-1] = (ascending[2:] - ascending[:-2]) / span
                distances[members[order]] += gaps
            elif len(members) == 1:
                distances[members] = np.inf
    return 1 - 1 / (1 + distances)
