"""What earlier studies in the results folder teach a new one: configurations to start from, and how others fared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

import datasets
import models
from search_spaces import SearchSpace
from search_spaces.override import nearest
from tuning.journal import DamagedJournal, read
from tuning.record import ENDED, TrialRecord, replay
from tuning.spec import AUTO, METRIC, StudySpec, rungs
from tuning.storage import JOURNAL, STUDY_FILE, Storage, studies
from tuning.study_file import parts

Config = dict[str, Any]

STARTS = 3  # configurations to begin with, of as many studies
PRIOR = 200  # trials that are remembered
NEAR = 0.1  # configurations closer than this count as one; two random ones are a third of the space apart
# What a rate or decay means depends on the optimiser: those of one are nothing to another.
OF_OPTIMIZER = ("lr", "momentum", "eps", "weight_decay", "clip_norm")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a first configuration comes from."""

    study: str
    trial: int
    score: float

    def __str__(self) -> str:
        return f"{self.study} (trial {self.trial}, {self.score:.4f})"


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """`first` follows the baseline, each of its own entry of `sources`; `prior` has merits from 0 to 1, the best."""

    first: tuple[Config, ...] = ()
    prior: tuple[tuple[Config, float], ...] = ()
    sources: tuple[Source, ...] = ()

    def notes(self) -> list[str]:
        """Which trials the study begins with."""
        if not self.prior:
            return ["no earlier study is like this one: starts from nothing but the published recipe"]
        if not self.sources:
            return ["nothing in the earlier studies beat the published recipe, which comes first anyway"]
        return [f"starts from the best of {source}" for source in self.sources]


@dataclass(frozen=True, kw_only=True)
class _Study:
    """An architecture of an earlier study: its trials with what they were worth, the best first."""

    name: str
    model: str
    spec: Mapping[str, Any]
    fixed: Config
    ranked: Sequence[tuple[TrialRecord, float]]
    time: float


def gather(spec: StudySpec, space: SearchSpace) -> WarmStart:
    """What the studies that `spec.warm_start` names are worth in `space`; nothing where it names none.

    Raises:
        ValueError: there is no such study, or it cannot be read.
    """
    if spec.warm_start is None:
        return WarmStart()
    there = {name: storage for name, storage in studies(spec.results_dir).items() if name != spec.name}
    chosen = _related(spec, there) if spec.warm_start == AUTO else _named(spec, there)
    mapped = [[(mapped_into(space, study.fixed, r.config), r, m) for r, m in study.ranked] for study in chosen]
    starts = _starts(space, [
        [(config, Source(study=study.name, trial=r.number, score=r.score)) for config, r, _ in trials if r.epochs]
        for study, trials in zip(chosen, mapped, strict=True)
    ])  # fmt: skip
    share = PRIOR // max(len(chosen), 1)
    return WarmStart(
        first=tuple(config for config, _ in starts),
        prior=tuple((config, merit) for trials in mapped for config, _, merit in _spread(trials, share)),
        sources=tuple(source for _, source in starts),
    )


def recall(storage: Storage, model: str) -> WarmStart:
    """What an architecture of a study was started with, whatever became of the folders of the others."""
    known = parts(json.loads((storage.folder / STUDY_FILE).read_text()))[model].get("warm_start")
    if not known:
        return WarmStart()
    return WarmStart(
        first=tuple(known["first"]),
        prior=tuple((config, merit) for config, merit in known["prior"]),
        sources=tuple(Source(**source) for source in known["sources"]),
    )


def mapped_into(space: SearchSpace, fixed: Mapping[str, Any], config: Mapping[str, Any]) -> Config:
    """A configuration of another space in this one: clipped to its ranges, completed from its baseline.

    `fixed` are the values that all configurations of the other space share.
    """
    given = {**fixed, **config}
    among = space.distributions.get("optimizer")
    own = _fitted(among, given.get("optimizer"), None) if among else space.fixed.get("optimizer")
    if given.get("optimizer") != own:
        given = {name: value for name, value in given.items() if name not in OF_OPTIMIZER}
    return space.active(
        {name: _fitted(d, given.get(name), space.baseline[name]) for name, d in space.distributions.items()}
    )


def merits(curves: Sequence[Sequence[float]], rungs: Sequence[int]) -> list[float]:
    """The share of the other trials that each beats at the highest rung both have reached; a tie is half a win.

    A curve holds the scores by epoch, as far as the first rung at least; a trial is worth its best epoch up to a rung,
    and less than all others if it has a NaN.
    """
    table = np.full((len(curves), len(rungs)), np.nan)
    for row, curve in zip(table, curves, strict=True):
        best = np.maximum.accumulate(np.array(curve, dtype=float))
        row[:] = [best[rung - 1] if rung <= len(curve) else np.nan for rung in rungs]
        if any(map(math.isnan, curve)):
            row[:] = -np.inf
    reached = (~np.isnan(table)).sum(axis=1) - 1
    found = []
    for own, height in zip(table, reached, strict=True):
        at = np.minimum(reached, height)
        others, mine = table[np.arange(len(table)), at], own[at]
        wins = (mine > others).sum() + ((mine == others).sum() - 1) / 2  # one tie is with itself
        found.append(float(wins / (len(table) - 1)) if len(table) > 1 else 1.0)
    return found


def _named(spec: StudySpec, there: Mapping[str, Storage]) -> list[_Study]:
    names = list(dict.fromkeys((spec.warm_start or "").split(",")))
    if missing := [name for name in names if name not in there]:
        place = datasets.anchored(spec.results_dir)
        raise ValueError(f"warm_start: there is no study {missing[0]!r} in {place}; there are: {_listed(there)}")
    try:
        found = [study for name in names for study in _read(there[name])]
    except (DamagedJournal, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"warm_start={spec.warm_start}: a study cannot be read ({error}); leave it out") from error
    useful = {study.name for study in found if study.ranked}
    if useless := [name for name in names if name not in useful]:
        raise ValueError(f"warm_start: {useless[0]} has no trials to learn from; there are: {_listed(there)}")
    return found


def _related(spec: StudySpec, there: Mapping[str, Storage]) -> list[_Study]:
    """The studies most like this one, the most alike first and then the newest."""
    found = []
    for storage in there.values():
        try:
            parts_of = _read(storage)
        except (DamagedJournal, KeyError, json.JSONDecodeError):
            continue  # nobody asked for this one
        near = [(_kinship(spec, study), study.time, study) for study in parts_of if study.ranked]
        found += [entry for entry in near if entry[0]]
    return [study for *_, study in sorted(found, key=lambda entry: entry[:2], reverse=True)][:STARTS]


def _kinship(spec: StudySpec, study: _Study) -> int:
    """0 for strangers; the same architecture counts more than the same data, and that more than the same family."""
    model = study.model
    same_family = models.architecture(model).family == models.architecture(spec.model).family
    alike = 4 * (model == spec.model) + same_family + 2 * (_place(study.spec["dataset"]) == _place(spec.dataset))
    return int(alike)


def _place(dataset: str) -> str:
    return str(Path(dataset).absolute()) if Path(dataset).exists() else dataset


def _read(storage: Storage) -> list[_Study]:
    """What a study tells of each of its architectures."""
    storage.pull()
    known = json.loads((storage.folder / STUDY_FILE).read_text())
    records = list(replay(read(storage.folder / JOURNAL)[0]).values())
    if "one_factor" in known:
        records = []  # levels are no configurations
    return [
        _architecture(
            storage.name, known["spec"], model, part["space"]["fixed"], [r for r in records if r.model in ("", model)]
        )
        for model, part in parts(known).items()
    ]


def _architecture(
    name: str, spec: Mapping[str, Any], model: str, fixed: Config, records: Sequence[TrialRecord]
) -> _Study:
    levels = rungs(spec["epochs"], spec["grace_epochs"], spec["reduction_factor"])
    trials = [r for r in records if r.outcome in ENDED and (len(r.epochs) >= levels[0] or r.outcome == "diverged")]
    curves = [[float(metrics[METRIC]) for metrics in r.epochs] + [math.nan] * (r.outcome == "diverged") for r in trials]
    worth = zip(trials, merits(curves, levels), strict=True)
    return _Study(
        name=name,
        model=model,
        spec=spec,
        fixed=fixed,
        ranked=sorted(worth, key=lambda pair: (-pair[1], pair[0].number)),
        time=max((record.started for record in records), default=0.0),
    )


def _starts(space: SearchSpace, studies: Sequence[Sequence[tuple[Config, Source]]]) -> list[tuple[Config, Source]]:
    """The best third of each study in turn, far from each other and none that fared worse than this baseline there."""
    baseline, chosen = space.active(space.baseline), list[tuple[Config, Source]]()
    left = [
        list(takewhile(lambda trial: trial[0] != baseline, trials[: max(len(trials) // STARTS, 1)]))
        for trials in studies
    ]
    while any(left) and len(chosen) < STARTS:
        for trials in left:
            new = next((t for t in trials if all(distance(space, t[0], c) >= NEAR for c, _ in chosen)), None)
            trials[:] = trials[trials.index(new) + 1 :] if new else []
            if new and len(chosen) < STARTS:
                chosen.append(new)
    return chosen


def distance(space: SearchSpace, one: Config, other: Config) -> float:
    """The mean difference over the hyperparameters that both have, as shares of their ranges; another choice is 1."""
    both = [(space.distributions[name], one[name], other[name]) for name in one if name in other]
    differences = [min(abs(_position(d, mine) - _position(d, its)), 1.0) for d, mine, its in both]
    return fmean(differences) if differences else 0.0


def _position(distribution: BaseDistribution, value: Any) -> float:
    """Where a value lies in its range, from 0 to 1; choices are at least 1 apart."""
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.choices.index(value))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low)) if high > low else 0.0


def _fitted(distribution: BaseDistribution, value: Any, baseline: Any) -> Any:
    number = isinstance(value, int | float)
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if value in choices:
            return value
        numbers = [choice for choice in choices if isinstance(choice, int | float)]
        return min(numbers, key=lambda choice: abs(choice - value)) if number and numbers else baseline
    return nearest(distribution, value) if number else baseline


def _spread(trials: Sequence[Any], count: int) -> Iterator[Any]:
    """At most `count` of `trials`, evenly from the best to the worst."""
    step = max(len(trials) / count, 1)
    return (trials[int(index * step)] for index in range(min(count, len(trials))))


def _listed(there: Mapping[str, Storage]) -> str:
    return ", ".join(there) or "none"
