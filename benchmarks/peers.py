"""What `search_quality.py` compares: our searcher and scheduler, and the pairs that people use instead, unchanged."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.tasks import Config, Task
from tuning.cube import Cube
from tuning.proposals import suggest
from tuning.scheduler import make_scheduler
from tuning.searcher import RungSearcher
from tuning.spec import METRIC, StudySpec, rungs

FACTOR = 3
Asked = tuple[str, Config]


class RayPair:
    """A searcher and a scheduler of Ray Tune, called as Ray's controller calls them."""

    def __init__(self, searcher: Any, scheduler: Any, epochs: int) -> None:
        self.searcher, self.scheduler, self.epochs = searcher, scheduler, epochs
        self.trials: dict[str, Any] = {}

    def ask(self) -> Asked | None:
        key = f"t{len(self.trials)}"
        config = self.searcher.suggest(key)
        if not isinstance(config, dict):
            return None
        self.trials[key] = SimpleNamespace(trial_id=key, config=config)
        self.scheduler.on_trial_add(None, self.trials[key])
        return key, config

    def tell(self, key: str, epoch: int, score: float) -> bool:
        """Whether the trial goes on."""
        result = {"epoch": epoch, "training_iteration": epoch, METRIC: score, "trial": 1 + int(key[1:])}
        decision = self.scheduler.on_trial_result(None, self.trials[key], result)
        if decision == "CONTINUE" and epoch < self.epochs:
            self.searcher.on_trial_result(key, result)
            return True
        self.scheduler.on_trial_complete(None, self.trials[key], result)
        self.searcher.on_trial_complete(key, result)
        return False


class OptunaHyperband:
    """Optuna's own: TPE and HyperbandPruner."""

    def __init__(self, task: Task, seed: int) -> None:
        pruner = optuna.pruners.HyperbandPruner(1, task.epochs, FACTOR)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self.task, self.trials = task, dict[str, optuna.Trial]()

    def ask(self) -> Asked:
        trial = self.study.ask()
        self.trials[str(trial.number)] = trial
        return str(trial.number), _suggested(self.task, trial)

    def tell(self, key: str, epoch: int, score: float) -> bool:
        trial = self.trials[key]
        trial.report(score, epoch)
        if epoch < self.task.epochs and not trial.should_prune():
            return True
        if epoch == self.task.epochs:
            self.study.tell(trial, score)
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return False


class Syne:
    """A scheduler of Syne Tune, which has its searcher within."""

    def __init__(self, name: str, task: Task, seed: int) -> None:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer import baselines

        np.random.seed(seed)  # its brackets are drawn from there
        random.seed(seed)
        self.scheduler = getattr(baselines, name)(
            _syne_space(task), metric=METRIC, time_attr="epoch", max_t=task.epochs, do_minimize=False,
            random_seed=seed, grace_period=1, reduction_factor=FACTOR,
        )  # fmt: skip
        self.task, self.trials, self._make = task, dict[str, Any](), Trial

    def ask(self) -> Asked | None:
        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        key = str(len(self.trials))
        self.trials[key] = self._make(int(key), suggestion.config, datetime.now(UTC))
        self.scheduler.on_trial_add(self.trials[key])
        return key, Cube(self.task.distributions, self.task.conditions).active(suggestion.config)

    def tell(self, key: str, epoch: int, score: float) -> bool:
        result = {METRIC: score, "epoch": epoch}
        if epoch == self.task.epochs:
            self.scheduler.on_trial_complete(self.trials[key], result)
            return False
        return bool(self.scheduler.on_trial_result(self.trials[key], result) == "CONTINUE")


class EpochThenTop:
    """Half of the budget for one epoch each of random configurations, the other half for full trainings of the best."""

    def __init__(self, task: Task, seed: int, trainings: int) -> None:
        self.task, self.study = task, optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        self.short = trainings * task.epochs // 2
        self.configs, self.scores, self.full = list[Config](), dict[str, float](), set[str]()

    def ask(self) -> Asked | None:
        if len(self.configs) < self.short:
            self.configs.append(_suggested(self.task, self.study.ask()))
            return str(len(self.configs) - 1), self.configs[-1]
        left = [key for key in self.scores if key not in self.full]
        if not left:
            return None
        best = max(left, key=lambda key: self.scores[key])
        self.full.add(best)
        return f"full {best}", self.configs[int(best)]

    def tell(self, key: str, epoch: int, score: float) -> bool:
        if key.startswith("full"):
            return epoch < self.task.epochs
        self.scores[key] = score
        return False


def ours(task: Task, seed: int, *, recipe: bool = False, **fields: Any) -> RayPair:
    """Of this project; without the recipe, which the others do not know either."""
    spec = StudySpec(model="resnet20", name="x", epochs=task.epochs, seed=seed, **fields)
    searcher = RungSearcher(
        task.distributions, metric=METRIC, mode="max", baseline=task.baseline if recipe else None,
        conditions=task.conditions, rungs=spec.rungs, seed=seed, sampler=spec.sampler,
    )  # fmt: skip
    return RayPair(searcher, make_scheduler(spec), task.epochs)


def ray_pair(task: Task, seed: int, sampler: optuna.samplers.BaseSampler | None = None, grace: int = 1) -> RayPair:
    scheduler = AsyncHyperBandScheduler(
        "epoch", METRIC, "max", max_t=task.epochs, grace_period=grace, reduction_factor=FACTOR
    )

    def space(trial: optuna.Trial) -> None:
        _suggested(task, trial)

    searcher = OptunaSearch(space, metric=METRIC, mode="max", sampler=sampler, seed=None if sampler else seed)
    return RayPair(searcher, scheduler, task.epochs)


def _suggested(task: Task, trial: optuna.Trial) -> dict[str, Any]:
    """A configuration, choices before what depends on them."""
    for name in sorted(task.distributions, key=lambda name: name in task.conditions):
        choice, value = task.conditions.get(name, ("", None))
        if not choice or trial.params[choice] == value:
            suggest(trial, name, task.distributions[name])
    return dict(trial.params)


def _syne_space(task: Task) -> dict[str, Any]:
    """Syne Tune knows no conditions: it sees all hyperparameters always."""
    from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform

    space: dict[str, Any] = {}
    for name, d in task.distributions.items():
        if isinstance(d, CategoricalDistribution):
            space[name] = choice(list(d.choices))
        elif isinstance(d, IntDistribution):
            space[name] = (lograndint if d.log else randint)(d.low, d.high)
        else:
            assert isinstance(d, FloatDistribution)
            space[name] = (loguniform if d.log else uniform)(d.low, d.high)
    return space


Method = Callable[[Task, int], Any]
METHODS: dict[str, Method] = {
    "ours": ours,
    "ours, recipe first": lambda task, seed: ours(task, seed, recipe=True),
    "ours, TPE": lambda task, seed: ours(task, seed, sampler="tpe"),
    "ours, CMA-ES": lambda task, seed: ours(task, seed, sampler="cmaes"),
    "ours, random": lambda task, seed: ours(task, seed, sampler="random"),
    "random + Ray's ASHA": lambda task, seed: ray_pair(task, seed, optuna.samplers.RandomSampler(seed=seed)),
    "Ray's OptunaSearch + ASHA": ray_pair,
    "random + Ray's ASHA, our grace": lambda task, seed: ray_pair(
        task, seed, optuna.samplers.RandomSampler(seed=seed), grace=rungs(task.epochs, None, FACTOR)[0]
    ),
    "Ray's OptunaSearch + ASHA, our grace": lambda task, seed: ray_pair(
        task, seed, grace=rungs(task.epochs, None, FACTOR)[0]
    ),
    "Optuna TPE + HyperbandPruner": OptunaHyperband,
    **{f"Syne Tune {name}": partial(Syne, name) for name in ("ASHA", "BOHB", "ASHABORE", "ASHACQR")},
}  # fmt: skip
