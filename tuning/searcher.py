"""A Ray Tune searcher over Optuna that keeps the scores of each rung apart.

Ray's own OptunaSearch tells the sampler that a trial stopped at its first rung is finished, with its early score; the
sampler then compares epochs with epochs of another length and does worse than random search.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from ray.tune.search import Searcher

from tuning.cube import Config, Cube
from tuning.objectives import RANKED, Objectives, Score, leading
from tuning.proposals import Evolution, Grid, Observation, Reading, gaussian, near, parzen, uniform
from tuning.seeds import derive_seed
from tuning.spec import SAMPLERS

ENOUGH_SCORES = 10  # TPE's own number of random trials before it starts to model
EXPLORED_SHARE = 1 / 3  # of the proposals asks no model, so that a wrong early one cannot lock the search in
NEAR_SHARE = 1 / 2  # of these, at most, lie near the published recipe
PRIOR_SHARE = 1 / 2  # of the others, at most, come from earlier studies


@dataclass
class _Trial:
    """A configuration, where it came from, and its score at each rung, also those that it never got to."""

    config: Config
    source: str
    scores: dict[int, Score] = field(default_factory=dict)
    pending: bool = True


class RungSearcher(Searcher):
    """Proposes the baseline, then configurations that a model of the rungs' scores finds promising.

    The model is a Gaussian process over all rungs (`gp`) or TPE on the highest rung with enough scores (`tpe`); a third
    of the proposals asks none. `cmaes`, `random` and `grid` are there to compare with.

    `rungs` are epochs, ascending, the last the full length; results must carry `epoch` and the metric. A score of NaN
    counts as the worst of its rung and of all above. Numbers trials from 0 in the order of `suggest`. `conditions` maps
    a hyperparameter to the choice, and the value of it, without which it is left out. `first` configurations follow the
    baseline; `prior` are configurations of earlier studies with merits, larger being better, which proposals are
    modelled on for as long as these do better than others. `goals`, if given, take the place of metric and mode.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        *,
        metric: str,
        mode: str,
        baseline: Mapping[str, Any] | None,
        rungs: Sequence[int],
        seed: int,
        sampler: str = "gp",
        conditions: Mapping[str, tuple[str, Any]] | None = None,
        first: Sequence[Mapping[str, Any]] = (),
        prior: Sequence[Observation] = (),
        goals: Objectives | None = None,
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        if mode not in ("max", "min"):
            raise ValueError(f"mode must be max or min, got {mode!r}")
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.cube = Cube(distributions, conditions)
        self.rungs, self.sampler, self.seed, self.baseline = tuple(rungs), sampler, seed, baseline
        self.prior = [observation for observation in prior if self.cube.fits(observation[0])]
        self.numbers: dict[str, int] = {}  # Ray's trial id -> our trial number
        self.trials: dict[int, _Trial] = {}
        self._queue = [dict(config) for config in (*([] if baseline is None else [baseline]), *first)]
        self._unfinished: list[int] = []
        self._next = 0
        self._sign = 1.0 if mode == "max" else -1.0
        self._goals = None if goals is None or goals.plain else goals
        self._evolution = Evolution(self.cube, seed) if sampler == "cmaes" else None
        self._grid = Grid(self.cube, seed) if sampler == "grid" else None

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return metric in (None, self.metric) and mode in (None, self.mode)

    def suggest(self, trial_id: str) -> Config | str:
        """The next configuration; unfinished trials of an earlier run come first, under their old numbers."""
        if self._unfinished:
            number = self._unfinished.pop(0)
        else:
            number = self._next
            proposed = self._propose(number)
            if proposed is None:
                return str(Searcher.FINISHED)
            self.trials[number] = proposed
            self._next += 1
        self.numbers[trial_id] = number
        return dict(self.trials[number].config)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._record(self.numbers[trial_id], int(result["epoch"]), self._score(result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ray gives the result on which a trial was stopped only here; a trial with an error counts as worst."""
        number = self.numbers[trial_id]
        if error:
            self._record(number, self.rungs[0], self._score({}))
        elif result and self.metric in result:
            self._record(number, int(result["epoch"]), self._score(result))
        self._retire(number)

    def replay(self, number: int, config: Config, reports: Mapping[int, Mapping[str, Any]], *, finished: bool) -> None:
        """Takes over a trial of an earlier run of the same study: its results by epoch, and whether it is to go on."""
        if self._queue and config == self._queue[0]:
            self._queue.pop(0)
        self._next = max(self._next, number + 1)
        self.trials[number] = _Trial(dict(config), "replayed")
        for epoch, result in reports.items():
            self._record(number, epoch, self._score(result))
        if finished:
            self._retire(number)
        else:
            self._unfinished.append(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal holds all that `replay` needs."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from its journal, not from Ray Tune's snapshots")

    def _propose(self, number: int) -> _Trial | None:
        """Draws where the next configuration comes from; the seeds follow from the number, whatever ran before."""
        if self._queue:
            return _Trial(self._queue.pop(0), "given")
        seed = derive_seed(self.seed, number, bits=32)
        rng = random.Random(seed)
        if self._grid:
            config = self._grid.propose([trial.config for trial in self.trials.values()])
            return None if config is None else _Trial(config, "grid")
        explores = self.sampler == "random" or rng.random() < EXPLORED_SHARE
        if self.prior and not explores and rng.random() < PRIOR_SHARE * self._trust("prior"):
            return _Trial(parzen(self.cube, self.prior, self._pending(), seed), "prior")
        if not explores and (config := self._model(number, seed)):
            return _Trial(config, "model")
        if self.baseline and self.sampler != "random" and rng.random() < NEAR_SHARE * self._trust("near baseline"):
            return _Trial(near(self.cube, self.baseline, seed), "near baseline")
        return _Trial(uniform(self.cube, seed), "uniform")

    def _model(self, number: int, seed: int) -> Config | None:
        """What the sampler proposes; None while it knows too little."""
        if self._evolution:
            return self._evolution.propose(number)
        if self.sampler == "gp":
            readings = self._readings()
            if not readings:
                return None
            last = self.rungs[-1]
            return gaussian(self.cube, readings, self._pending(last), seed, epochs=last)
        rung = self._modelled_rung()
        if rung is None:
            return None
        return parzen(self.cube, self._observations(rung), self._pending(rung), seed)

    def _modelled_rung(self) -> int | None:
        """The highest with enough scores."""
        for rung in reversed(self.rungs):
            if sum(math.isfinite(leading(trial.scores[rung])) for trial in self._at(rung)) >= ENOUGH_SCORES:
                return rung
        return None

    def _observations(self, rung: int) -> list[Observation]:
        """All scores of a rung; failures are worse than every other.

        Trials that were stopped below the rung are left out: told as its worst, they would crowd the picture that TPE
        has of bad configurations with some that were never compared there (benchmarks/search_quality.py).
        """
        reached = self._at(rung)
        merits = self._merits([trial.scores[rung] for trial in reached])
        worst = min(filter(math.isfinite, merits)) - 1
        return [(trial.config, max(merit, worst)) for trial, merit in zip(reached, merits, strict=True)]

    def _readings(self) -> list[Reading]:
        """The scores of all rungs; none while too few trials have any."""
        if sum(bool(trial.scores) for trial in self.trials.values()) < ENOUGH_SCORES:
            return []
        read = [(trial.config, rung, score) for trial in self.trials.values() for rung, score in trial.scores.items()]
        if self._goals:
            read = sorted(reversed(read), key=lambda reading: -reading[1])[:RANKED]
        merits = self._merits([score for *_, score in read])
        return [(config, rung, merit) for (config, rung, _), merit in zip(read, merits, strict=True)]

    def _pending(self, rung: int | None = None) -> list[Config]:
        """The configurations of running trials, without those that have a score at `rung`."""
        return [trial.config for trial in self.trials.values() if trial.pending and rung not in trial.scores]

    def _trust(self, source: str) -> float:
        """How far a source of proposals is to be trusted: 1 at first, less with each that others do better than.

        They are compared at the first rung, with the median of all others there; one success and one failure are
        assumed before any was seen.
        """
        scored = self._at(self.rungs[0])
        merits = self._merits([trial.scores[self.rungs[0]] for trial in scored])
        own = [merit for trial, merit in zip(scored, merits, strict=True) if trial.source == source]
        others = [merit for trial, merit in zip(scored, merits, strict=True) if trial.source != source]
        middle = median(others) if others else -math.inf
        wins = sum(merit > middle for merit in own)
        return min(2 * (1 + wins) / (2 + len(own)), 1.0)

    def _at(self, rung: int) -> list[_Trial]:
        """The trials with a score at a rung, or as many of the last as can be compared."""
        reached = [trial for trial in self.trials.values() if rung in trial.scores]
        return reached[-RANKED:] if self._goals else reached

    def _score(self, result: Mapping[str, Any]) -> Score:
        """What a result is worth; that of a failure, which has no finite metric, is the worst."""
        if self._goals:
            return self._goals.of(result)
        score = self._sign * float(result.get(self.metric, math.nan))
        return -math.inf if math.isnan(score) else score

    def _merits(self, scores: Sequence[Score]) -> list[float]:
        """Scores as numbers; those of several objectives can only be told together."""
        if self._goals:
            return self._goals.merits([score for score in scores if isinstance(score, tuple)])
        return [score for score in scores if isinstance(score, float)]

    def _record(self, number: int, epoch: int, score: Score) -> None:
        trial = self.trials[number]
        for rung in self.rungs:
            if rung == epoch or (rung > epoch and not math.isfinite(leading(score))):
                trial.scores.setdefault(rung, score)

    def _retire(self, number: int) -> None:
        """CMA-ES only looks at an order: that of the rung reached, then of the score there."""
        trial = self.trials[number]
        trial.pending = False
        if self._evolution and trial.scores:
            rung = max(rung for rung in trial.scores)
            merit = self._merits([trial.scores[rung]])[0]
            self._evolution.tell(number, trial.config, _lexicographic(self.rungs.index(rung), merit))


def _lexicographic(place: int, score: float) -> float:
    return place + math.atan(score) / math.pi if math.isfinite(score) else -1.0
