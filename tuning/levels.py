"""What a one-factor study found: the scores of each level over its seeds, and how far they are from the first's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from tuning.prepare import Prepared
from tuning.record import Records, TrialRecord

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class LevelResult:
    """One level. Accuracies are shares in [0, 1], by seed; seeds that did not finish are left out."""

    name: str
    settings: Mapping[str, object]
    val_accuracies: Mapping[int, float]  # of the best epoch
    test_accuracies: Mapping[int, float]  # of the same epoch's weights
    diverged: int
    unfinished: int


@dataclass(frozen=True, kw_only=True)
class OneFactorResult:
    """What a one-factor study found; the first level is what the others are compared with."""

    name: str
    question: str
    published: str
    dataset: str
    score: str  # accuracy, or mean average precision
    folder: Path
    levels: tuple[LevelResult, ...]
    trials: int
    failed: int
    records: Records = field(repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict)
    experiment_id: str = ""
    unsent: int = 0


def collect(prepared: Prepared, records: Records) -> OneFactorResult:
    """The result of all trials so far."""
    assert prepared.one_factor
    levels = [_level(name, prepared, list(records.values())) for name in prepared.levels]
    return OneFactorResult(
        name=prepared.spec.name,
        question=prepared.one_factor.question,
        published=prepared.one_factor.published,
        dataset=prepared.splits.name,
        score=prepared.splits.score,
        folder=prepared.folder,
        levels=tuple(levels),
        trials=len(records),
        failed=sum(record.outcome == "failed" for record in records.values()),
        records=records,
    )


def difference(level: LevelResult, first: LevelResult) -> tuple[float, float] | None:
    """Mean difference in test accuracy to `first` over the seeds that both have, and half of its 95 % interval.

    Paired by seed, because the seeds share initial weights where shapes agree, and the order of images always. The
    interval is infinite for a single seed; None where there is no common seed.
    """
    seeds = sorted(set(level.test_accuracies) & set(first.test_accuracies))
    gains = [level.test_accuracies[seed] - first.test_accuracies[seed] for seed in seeds]
    if not gains:
        return None
    if len(gains) == 1:
        return gains[0], math.inf
    from scipy.stats import t

    return mean(gains), float(t.ppf((1 + CONFIDENCE) / 2, len(gains) - 1)) * stdev(gains) / math.sqrt(len(gains))


def rows(result: OneFactorResult) -> list[list[str]]:
    """A line of text cells for each level, under `TITLES`."""
    return [_row(level, result.levels[0]) for level in result.levels]


TITLES = ("level", "validation, %", "test, %", "against the first", "seeds")


def _row(level: LevelResult, first: LevelResult) -> list[str]:
    seeds = [str(len(level.test_accuracies))]
    seeds += [f"{level.diverged} diverged"] if level.diverged else []
    seeds += [f"{level.unfinished} unfinished"] if level.unfinished else []
    scores = [spread(list(level.val_accuracies.values())), spread(list(level.test_accuracies.values()))]
    return [level.name, *scores, "" if level is first else _against(difference(level, first)), ", ".join(seeds)]


def spread(accuracies: Sequence[float]) -> str:
    """Mean and standard deviation in percent."""
    if not accuracies:
        return "-"
    deviation = f" +- {100 * stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * mean(accuracies):.2f}{deviation}"


def _against(gain: tuple[float, float] | None) -> str:
    if gain is None:
        return "-"
    points, margin = gain
    if math.isinf(margin):
        return f"{100 * points:+.2f} (one seed)"
    return f"{100 * points:+.2f} +- {100 * margin:.2f}{'' if abs(points) > margin else ', a tie'}"


def _level(name: str, prepared: Prepared, records: Sequence[TrialRecord]) -> LevelResult:
    assert prepared.one_factor
    own = [record for record in records if record.config["level"] == name]
    complete = {record.config["replicate"]: record for record in own if record.complete}
    diverged = sum(record.outcome == "diverged" for record in own)
    return LevelResult(
        name=name,
        settings=prepared.one_factor.levels[name],
        val_accuracies={seed: record.score for seed, record in sorted(complete.items())},
        test_accuracies={
            seed: record.test_accuracy for seed, record in sorted(complete.items()) if record.test_accuracy is not None
        },
        diverged=diverged,
        unfinished=(prepared.spec.seeds or 1) - len(complete) - diverged,
    )
