"""How far early stopping can be trusted on a task: what became of trials that it would have stopped but let run on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from tuning.record import Records, TrialRecord
from tuning.spec import METRIC

Z = 1.96  # 95 %
ENOUGH_FOR_A_RATE = 10  # audited trials; of fewer only the counts are told
ENOUGH_TO_CORRELATE = 4
LOOSE = 0.5  # a rank correlation that is surely below it makes a poor judge
REGULARISERS = ("weight_decay", "dropout", "drop_path", "label_smoothing", "erasing", "mixup", "cutmix")
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Spearman's rank correlation of the scores at one rung with those of the last epoch, and its 95 % interval."""

    epoch: int
    trials: int
    correlation: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What became of the audited trials: those let run to the end although the scheduler would have stopped them."""

    audited: int
    among_best: int  # of them, among the best `1 / reduction_factor` of all trials that ran to the end
    above_winner: int  # of them, above the best of all that were not to be stopped
    reduction_factor: float
    agreements: tuple[Agreement, ...]
    shared: tuple[str, ...]  # what those among the best have in common

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate of stopped trials that would have ended among the best."""
        return wilson(self.among_best, self.audited)

    def __str__(self) -> str:
        rate = ""
        if self.audited >= ENOUGH_FOR_A_RATE:
            low, high = (round(100 * end) for end in self.interval)
            rate = f" ({100 * self.among_best / self.audited:.0f} %, 95 % interval {low} to {high} %)"
        best = (
            f"{self.among_best} of {self.audited} audited trials ended among the best 1/{self.reduction_factor:g}{rate}"
        )
        parts = [f"{best}, {self.above_winner} above the winner" if self.audited else "no stopped trial was audited"]
        if self.agreements:
            seen = ", ".join(f"{a.correlation:.2f} at epoch {a.epoch}" for a in self.agreements)
            parts.append(f"rank correlation with the end {seen}")
        return "; ".join(parts)

    @property
    def warnings(self) -> list[str]:
        """Why early stopping cannot be trusted here, with what to do; empty if nothing speaks against it."""
        found = []
        remedy = "compare later with --set grace_epochs=N, or run all to the end with --set scheduler=none"
        if self.audited and self.interval[0] > 1 / (2 * self.reduction_factor):  # half of what drawing lots would lose
            found.append(
                f"early stopping cannot be trusted here: {self.among_best} of {self.audited} trials that it would "
                f"have stopped ended among the best; {remedy}"
            )
        # without audited trials only those that did well early are seen to the end, which hides any correlation
        loose = [agreement for agreement in self.agreements if self.audited and agreement.interval[1] < LOOSE]
        found += [
            f"scores at epoch {a.epoch} say little about the end: rank correlation {a.correlation:.2f} over {a.trials} "
            f"trials; {remedy}"
            for a in loose
        ]
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """For MLflow."""
        counts = {"trials": self.audited, "among_best": self.among_best, "above_winner": self.above_winner}
        return {
            **{f"audit_{name}": float(count) for name, count in counts.items()},
            **{f"rank_correlation_epoch_{a.epoch}": a.correlation for a in self.agreements},
        }


def audit(records: Records, rungs: Sequence[int], reduction_factor: float) -> Audit:
    """Judges the comparisons at `rungs`, the last of which is the full length."""
    complete = [record for record in records.values() if record.complete]
    audited = [r for r in records.values() if r.audited_at is not None and r.outcome in ("completed", "diverged")]
    ranked = sorted(complete, key=lambda record: -record.score)
    cut_off = ranked[math.ceil(len(ranked) / reduction_factor) - 1].score if ranked else math.inf
    winner = max((record.score for record in complete if record.audited_at is None), default=math.inf)
    wrong = [record for record in audited if record.complete and record.score >= cut_off]
    return Audit(
        audited=len(audited),
        among_best=len(wrong),
        above_winner=sum(record.complete and record.score > winner for record in audited),
        reduction_factor=reduction_factor,
        agreements=_agreements(complete, records, rungs),
        shared=_shared(wrong, list(records.values())),
    )


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate of which `hits` of `trials` were seen; from 0 to 1 if there were none."""
    if not trials:
        return 0.0, 1.0
    rate, square = hits / trials, Z * Z / trials
    middle, half = rate + square / 2, Z * math.sqrt(rate * (1 - rate) / trials + square / trials / 4)
    return max((middle - half) / (1 + square), 0.0), min((middle + half) / (1 + square), 1.0)


def rank_correlation(one: Sequence[float], other: Sequence[float], weights: Sequence[float]) -> float | None:
    """Spearman's, each pair counting as often as its weight says; None where all are equal."""
    w = np.array(weights, dtype=float)
    ranks = np.array([_ranks(np.array(values, dtype=float), w) for values in (one, other)])
    centred = ranks - (ranks @ w / w.sum())[:, None]
    covariance = (centred * w) @ centred.T
    scale = math.sqrt(covariance[0, 0] * covariance[1, 1])
    return float(np.clip(covariance[0, 1] / scale, -1, 1)) if scale else None


def _ranks(values: Array, weights: Array) -> Array:
    below, equal = values[None] < values[:, None], values[None] == values[:, None]
    return np.asarray(below @ weights + equal @ weights / 2)


def _agreements(complete: Sequence[TrialRecord], records: Records, rungs: Sequence[int]) -> tuple[Agreement, ...]:
    """Of each rung below the last, over the trials that ran to the end; audited ones stand for all stopped with them.

    Else those that did well early would be compared among themselves, and look as if the early scores told nothing.
    """
    ended = [record for record in complete if len(record.epochs) >= rungs[-1]]
    if len(ended) < ENOUGH_TO_CORRELATE:
        return ()
    weights = [_weight(record, records) for record in ended]
    last = [float(record.epochs[-1][METRIC]) for record in ended]
    found = []
    for rung in rungs[:-1]:
        correlation = rank_correlation([float(record.epochs[rung - 1][METRIC]) for record in ended], last, weights)
        if correlation is not None:
            interval = _fisher(correlation, sum(weights) ** 2 / sum(w * w for w in weights))
            found.append(Agreement(epoch=rung, trials=len(ended), correlation=correlation, interval=interval))
    return tuple(found)


def _weight(record: TrialRecord, records: Records) -> float:
    """How many trials one that ran to the end stands for: itself, or the share of an audited one in those stopped."""
    if record.audited_at is None:
        return 1.0
    stopped = sum(r.outcome == "stopped" and len(r.epochs) == record.audited_at for r in records.values())
    return 1 + stopped / sum(r.audited_at == record.audited_at for r in records.values())


def _fisher(correlation: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a rank correlation over so many trials."""
    if trials <= 3:
        return -1.0, 1.0
    middle = math.atanh(max(min(correlation, 0.999999), -0.999999))
    half = Z * 1.06 / math.sqrt(trials - 3)  # Fieller et al. 1957
    return math.tanh(middle - half), math.tanh(middle + half)


def _shared(wrong: Sequence[TrialRecord], trials: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Whether all of at least two lie on the same side of the median trial, in rate or in regularisation."""
    found = []
    for name, values in (("learning rate", _rates(trials)), ("regularisation", _regularisation(trials))):
        known = [values[record.number] for record in wrong if record.number in values]
        if len(known) < 2:
            continue
        middle = median(values.values())
        for word, same in (("higher", min(known) > middle), ("lower", max(known) < middle)):
            if same:
                found.append(f"all {len(known)} have a {word} {name} than the median trial")
    return tuple(found)


def _rates(trials: Sequence[TrialRecord]) -> Mapping[int, float]:
    return {record.number: float(record.config["lr"]) for record in trials if "lr" in record.config}


def _regularisation(trials: Sequence[TrialRecord]) -> Mapping[int, float]:
    """The mean rank of each trial over the regularisers that all trials have, as a share."""
    names = [name for name in REGULARISERS if trials and all(name in record.config for record in trials)]
    if not names:
        return {}
    ones = np.ones(len(trials))
    ranks = [_ranks(np.array([float(r.config[name]) for r in trials]), ones) / len(trials) for name in names]
    return {record.number: fmean(map(float, own)) for record, own in zip(trials, zip(*ranks, strict=True), strict=True)}
