"""Which trials a study may show for its objectives: their order, and the front that no other trial dominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuning.leaderboard import percent
from tuning.objectives import COSTS, HIGHER_IS_BETTER, Objectives
from tuning.record import Records, TrialRecord

FRONT_FILE = "front.json"


@dataclass(frozen=True, kw_only=True)
class FrontTrial:
    """A trial that none dominates."""

    trial: int
    values: Mapping[str, float]  # of each objective, at the epoch with the best accuracy
    test_accuracy: float | None
    config: Mapping[str, Any]
    checkpoint: str  # in the study's folder


def ranked(records: Records, goals: Objectives) -> list[TrialRecord]:
    """The trials with at least one epoch: those that satisfy the constraints first, by accuracy, the others after."""
    trained = [record for record in records.values() if record.best]
    return sorted(trained, key=lambda record: (violation(record, goals), -record.score, record.number))


def pareto_front(records: Records, goals: Objectives) -> list[TrialRecord]:
    """The completed trials that satisfy the constraints and that no other one dominates, by accuracy."""
    completed = [record for record in ranked(records, goals) if record.complete]
    return [completed[index] for index in goals.front([goals.of(record.best or {}) for record in completed])]


def candidates(records: Records, goals: Objectives) -> list[TrialRecord]:
    """Whom the finals choose the winner among, the best first: the front, where there is one."""
    return (pareto_front(records, goals) if goals.several else []) or ranked(records, goals)


def violation(record: TrialRecord, goals: Objectives) -> float:
    return goals.violation(record.best or {})


def titles(goals: Objectives) -> list[str]:
    """The columns of `rows`."""
    return ["trial", *(name.replace("val_", "validation ").replace("_", " ") for name in goals.names), "test accuracy"]


def rows(front: Sequence[FrontTrial]) -> list[list[str]]:
    """A line of text cells for each member."""
    return [[str(t.trial), *(shown(n, v) for n, v in t.values.items()), percent(t.test_accuracy)] for t in front]


def shown(name: str, value: float) -> str:
    """A metric as people read it."""
    if name in COSTS:
        return f"{value:,.0f}" if name == "parameters" else f"{value:,.3g}"
    return percent(value) if HIGHER_IS_BETTER[name] else f"{value:.4f}"
