"""A Ray Tune searcher for several architectures that share one budget of trials, each with a searcher of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from tuning.bandit import Arm, choose
from tuning.searcher import RungSearcher
from tuning.spec import MODEL


class PortfolioSearcher(Searcher):
    """Trial `i` is the published recipe of architecture `i`; who gets each later one, `bandit.choose` says.

    Configurations name their architecture under `model`. The searchers count their own trials from 0, this one counts
    the trials of all.
    """

    def __init__(
        self,
        searchers: Mapping[str, RungSearcher],
        *,
        metric: str,
        mode: str,
        rungs: Sequence[int],
        reduction_factor: float,
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        self.searchers, self.rungs, self.reduction_factor = dict(searchers), tuple(rungs), reduction_factor
        self.numbers: dict[str, int] = {}  # Ray's trial id -> our trial number
        self._models: dict[int, str] = {}  # of each trial so far
        self._scores: dict[int, dict[int, float]] = {}  # of each trial, by rung
        self._local: dict[tuple[str, int], int] = {}  # an architecture and its searcher's number -> our trial number
        self._unfinished: list[int] = []
        self._recipes = dict(enumerate(self.searchers))  # those not handed out yet
        self._next = len(self.searchers)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return metric in (None, self.metric) and mode in (None, self.mode)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next configuration; unfinished trials of an earlier run come first, under their old numbers."""
        if self._unfinished:
            number = self._unfinished.pop(0)
        elif self._recipes:
            number = min(self._recipes)
            self._models[number] = self._recipes.pop(number)
        else:
            number, self._next = self._next, self._next + 1
            self._models[number] = list(self.searchers)[choose(self.arms(), self.rungs, self.reduction_factor)]
        model = self._models[number]
        config = self.searchers[model].suggest(trial_id)
        # its searcher may hand out its unfinished trials in another order
        number = self._local.setdefault((model, self.searchers[model].numbers[trial_id]), number)
        self.numbers[trial_id] = number
        assert not isinstance(config, str)  # no grid, which would end
        return {MODEL: model, **config}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._record(self.numbers[trial_id], result)
        self._searcher(trial_id).on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if result and self.metric in result:
            self._record(self.numbers[trial_id], result)
        self._searcher(trial_id).on_trial_complete(trial_id, result, error)

    def replay(
        self, number: int, config: dict[str, Any], reports: Mapping[int, Mapping[str, Any]], *, finished: bool
    ) -> None:
        """Takes over a trial of an earlier run of the same study: its results by epoch, and whether it is to go on."""
        model = self._models[number] = config[MODEL]
        recipe = self._recipes.pop(number, None) is not None
        # an architecture's own numbers begin with 0, its recipe; what matters of the others is their order
        local = 0 if recipe else 1 + sum(known == model for known, _ in self._local)
        while (model, local) in self._local:
            local += 1
        self._local[model, local] = number
        self._next = max(self._next, number + 1)
        for epoch, result in reports.items():
            self._record(number, {**result, "epoch": epoch})
        own = {name: value for name, value in config.items() if name != MODEL}
        self.searchers[model].replay(local, own, reports, finished=finished)
        if not finished:
            self._unfinished.append(number)

    def arms(self) -> list[Arm]:
        """What the bandit is told of each architecture, in their order."""
        return [self._arm(index, model) for index, model in enumerate(self.searchers)]

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal holds all that `replay` needs."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from its journal, not from Ray Tune's snapshots")

    def _arm(self, recipe: int, model: str) -> Arm:
        own = [number for number, known in self._models.items() if known == model]
        scores = {
            rung: [self._scores[n][rung] for n in own if n != recipe and rung in self._scores.get(n, {})]
            for rung in self.rungs
        }
        return Arm(pulls=len(own), recipe=self._scores.get(recipe, {}), scores=scores)

    def _searcher(self, trial_id: str) -> RungSearcher:
        return self.searchers[self._models[self.numbers[trial_id]]]

    def _record(self, number: int, result: Mapping[str, Any]) -> None:
        """Keeps the score of a rung, higher being better; a diverged trial has the worst at the next rung."""
        epoch, score = int(result["epoch"]), float(result[self.metric])
        if math.isnan(score):
            epoch = next((rung for rung in self.rungs if rung >= epoch), self.rungs[-1])
            score = -math.inf
        elif self.mode == "min":
            score = -score
        if epoch in self.rungs:
            self._scores.setdefault(number, {}).setdefault(epoch, score)
