"""A Ray Tune searcher over Optuna that keeps the scores of each rung apart.

Ray's own OptunaSearch tells the sampler that a trial stopped at its first rung is finished, with its early score; the
sampler then compares epochs with epochs of another length and does worse than random search.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

ENOUGH_SCORES = 10  # TPE's own number of random trials before it starts to model
BELOW_ALL = 1e9  # TPE only looks at the order of scores
RANDOM_SHARE = 1 / 3  # of the proposals, so that a wrong early model cannot lock the search in


@dataclass
class _Asked:
    """A running trial and, if a model proposed it, where it counts as pending: rung and number in that study."""

    config: dict[str, Any]
    pending: tuple[int, int] | None = None


class RungSearcher(Searcher):
    """Proposes the baseline, then configurations modelled on the highest rung that has enough scores.

    `rungs` are epochs, ascending, the last the full length; results must carry `epoch` and the metric. A score of NaN
    counts as the worst of its rung and of all above. Numbers trials from 0 in the order of `suggest`. `conditions` maps
    a hyperparameter to the choice, and the value of it, without which it is left out.
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
        sampler: str = "tpe",
        conditions: Mapping[str, tuple[str, Any]] | None = None,
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        if mode not in ("max", "min"):
            raise ValueError(f"mode must be max or min, got {mode!r}")
        self.distributions, self.rungs, self.sampler = dict(distributions), tuple(rungs), sampler
        self.conditions = dict(conditions or {})
        self.numbers: dict[str, int] = {}  # Ray's trial id -> our trial number
        self._queue = [] if baseline is None else [dict(baseline)]
        self._next = 0
        self._unfinished: list[tuple[int, dict[str, Any]]] = []
        self._asked: dict[int, _Asked] = {}
        self._worst = -math.inf if mode == "max" else math.inf
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        direction: Literal["maximize", "minimize"] = "maximize" if mode == "max" else "minimize"
        self._studies = {rung: optuna.create_study(direction=direction) for rung in self.rungs}
        self._uniform = optuna.create_study(direction=direction)
        self._seed = seed
        self._reseed(0)
        self._scores: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs}

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return metric in (None, self.metric) and mode in (None, self.mode)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next configuration; unfinished trials of an earlier run come first, under their old numbers."""
        if self._unfinished:
            number, config = self._unfinished.pop(0)
            self._asked[number] = _Asked(config)
        else:
            number, self._next = self._next, self._next + 1
            self._asked[number] = self._propose()
        self.numbers[trial_id] = number
        return dict(self._asked[number].config)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._record(self.numbers[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ray gives the result on which a trial was stopped only here; a trial with an error counts as worst."""
        number = self.numbers[trial_id]
        if error:
            self._fill_from(number, self.rungs[0], self._worst)
        elif result and self.metric in result:
            self._record(number, result)
        self._retire(number)

    def replay(self, number: int, config: dict[str, Any], scores: Mapping[int, float], *, finished: bool) -> None:
        """Takes over a trial of an earlier run of the same study: its score by epoch, and whether it is to go on."""
        self._queue = self._queue[1:] if number == 0 else self._queue
        self._next = max(self._next, number + 1)
        self._reseed(self._next)
        self._asked[number] = _Asked(config)
        for epoch, score in scores.items():
            self._record(number, {"epoch": epoch, self.metric: score})
        if finished:
            self._retire(number)
        else:
            del self._asked[number]
            self._unfinished.append((number, config))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal holds all that `replay` needs."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from its journal, not from Ray Tune's snapshots")

    def _propose(self) -> _Asked:
        if self._queue:
            return _Asked(self._queue.pop(0))
        rung = next((r for r in reversed(self.rungs) if len(self._scores[r]) >= ENOUGH_SCORES), None)
        if self.sampler == "random" or rung is None or self._random.random() < RANDOM_SHARE:
            return _Asked(dict(self._ask(self._uniform).params))
        trial = self._ask(self._studies[rung])
        return _Asked(dict(trial.params), (rung, trial.number))

    def _ask(self, study: optuna.Study) -> optuna.Trial:
        """A trial with all its hyperparameters; those under a condition come after the choices, where they are met."""
        trial = study.ask({name: d for name, d in self.distributions.items() if name not in self.conditions})
        for name, (choice, value) in self.conditions.items():
            if trial.params[choice] == value:
                _suggest(trial, name, self.distributions[name])
        return trial

    def _record(self, number: int, result: Mapping[str, Any]) -> None:
        epoch, score = int(result["epoch"]), float(result[self.metric])
        if math.isnan(score):
            above = next((rung for rung in self.rungs if rung >= epoch), self.rungs[-1])
            self._fill_from(number, above, self._worst)
        elif epoch in self._scores:
            self._tell(number, epoch, score)

    def _fill_from(self, number: int, first: int, score: float) -> None:
        for rung in self.rungs:
            if rung >= first:
                self._tell(number, rung, score)

    def _tell(self, number: int, rung: int, score: float) -> None:
        if number in self._scores[rung] or number not in self._asked:
            return
        self._scores[rung][number] = score
        asked = self._asked[number]
        if asked.pending and asked.pending[0] == rung:
            self._forget(asked)
        self._add(asked, rung, score)

    def _retire(self, number: int) -> None:
        """Counts a trial that was stopped below all that got further, at each rung that it did not reach.

        Without its losers a high rung would look as if the whole space were good.
        """
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        self._forget(asked)
        reached = [rung for rung in self.rungs if number in self._scores[rung]]
        for missed, rung in enumerate((r for r in self.rungs if r not in reached and reached), start=1):
            value = self._scores[reached[-1]][number] + missed * math.copysign(BELOW_ALL, self._worst)
            self._add(asked, rung, value)

    def _add(self, asked: _Asked, rung: int, value: float) -> None:
        distributions = {name: self.distributions[name] for name in asked.config}
        self._studies[rung].add_trial(create_trial(params=asked.config, distributions=distributions, value=value))

    def _forget(self, asked: _Asked) -> None:
        """Ends the pending trial of the study that proposed it; failed trials are nothing to a sampler."""
        if asked.pending:
            rung, number = asked.pending
            self._studies[rung].tell(number, state=TrialState.FAIL)
        asked.pending = None

    def _reseed(self, step: int) -> None:
        """Random streams that depend on the seed and on how many trials there were, so that none is drawn twice."""
        self._random = random.Random(f"{self._seed} {step}")
        for study in self._studies.values():
            study.sampler = TPESampler(seed=self._random.getrandbits(32))
        self._uniform.sampler = RandomSampler(seed=self._random.getrandbits(32))


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    else:
        assert isinstance(distribution, FloatDistribution)
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
