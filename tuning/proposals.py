"""Where configurations come from: a model of the scores, a grid, an evolution, or the neighbourhood of a known one."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import CmaEsSampler, TPESampler
from optuna.trial import create_trial
from threadpoolctl import threadpool_limits

from tuning.cube import Config, Cube
from tuning.gaussian import Gaussian, most_promising, normal_scores

Observation = tuple[Mapping[str, Any], float]  # a configuration and its merit; larger is better
Reading = tuple[Mapping[str, Any], int, float]  # a configuration, the epoch of a rung, and its score there

# observations of a fit, so that a proposal costs milliseconds, or tenths of a second, after any number of trials
TPE_BOUND, GAUSSIAN_BOUND = 200, 120
NEAR_DEVIATION = 0.1  # of a step away from a configuration, as a share of each range
NEAR_SHARE = 0.5  # of the hyperparameters that such a step changes
TRIES = 20  # until a step changes anything


def uniform(cube: Cube, seed: int) -> Config:
    """A configuration drawn uniformly, or log-uniformly where the range is logarithmic."""
    return cube.config(cube.draw(1, np.random.default_rng(seed))[0])


def near(cube: Cube, centre: Mapping[str, Any], seed: int) -> Config:
    """A configuration in the neighbourhood of `centre`, other than itself: about half of its values are moved."""
    points = np.repeat(cube.point(centre)[None], TRIES, axis=0)
    moved = map(cube.config, cube.moved(points, NEAR_DEVIATION, NEAR_SHARE, np.random.default_rng(seed)))
    return next((config for config in moved if config != centre), dict(centre))


def parzen(cube: Cube, observations: Sequence[Observation], pending: Sequence[Mapping[str, Any]], seed: int) -> Config:
    """What Optuna's TPE proposes after `observations`; `pending` configurations count as bad (a constant liar).

    A fit sees a bounded number of observations: the best, and a sample of the rest.
    """
    ranked = sorted(observations, key=lambda observation: -observation[1])
    best, rest = ranked[: TPE_BOUND // 2], ranked[TPE_BOUND // 2 :]
    kept = best + random.Random(seed).sample(rest, min(len(rest), TPE_BOUND - len(best)))
    study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=seed))
    for config, merit in [*kept, *((config, ranked[-1][1]) for config in pending)]:
        study.add_trial(create_trial(params=dict(config), distributions=_of(cube, config), value=merit))
    return dict(_ask(cube, study).params)


def gaussian(
    cube: Cube, readings: Sequence[Reading], pending: Sequence[Mapping[str, Any]], seed: int, *, epochs: int
) -> Config:
    """The greatest expected improvement at the full length of `epochs`, after the scores of all rungs together.

    What is pending is taken to end as expected. A fit sees a bounded number of readings: those of the highest rungs and
    of the best scores first, and a sample of the rest.
    """
    ranked = sorted(readings, key=lambda reading: (-reading[1], -reading[2]))
    best, rest = ranked[: GAUSSIAN_BOUND * 2 // 3], ranked[GAUSSIAN_BOUND * 2 // 3 :]
    kept = best + random.Random(seed).sample(rest, min(len(rest), GAUSSIAN_BOUND - len(best)))
    points = np.array([cube.point(config) for config, _, _ in kept])
    times = np.log([epoch / epochs for _, epoch, _ in kept])
    inputs = np.column_stack([cube.features(points), times])
    scores = normal_scores(np.array([score for _, _, score in kept]))
    with threadpool_limits(1, user_api="blas"):  # threads take longer to meet than such small matrices take to solve
        model = Gaussian(inputs.shape[1] - 1)
        model.fit(inputs, scores)
        if pending:
            waiting = np.array([cube.point(config) for config in pending])
            ends = np.column_stack([cube.features(waiting), np.zeros(len(waiting))])
            model.observe(np.vstack([inputs, ends]), np.append(scores, model.predict(ends)[0]))
            points = np.vstack([points, waiting])
        return cube.config(most_promising(model, cube, points, np.random.default_rng(seed)))


class Evolution:
    """Optuna's CMA-ES, which follows its own proposals from generation to generation."""

    def __init__(self, cube: Cube, seed: int) -> None:
        self.cube = cube
        self._study = optuna.create_study(
            direction="maximize", sampler=CmaEsSampler(seed=seed, warn_independent_sampling=False)
        )
        self._asked: dict[int, optuna.Trial] = {}

    def propose(self, number: int) -> Config:
        """The configuration of trial `number`, to be told of when that ends."""
        trial = self._asked[number] = _ask(self.cube, self._study)
        return dict(trial.params)

    def tell(self, number: int, config: Mapping[str, Any], merit: float) -> None:
        """What became of a trial, whoever proposed it; only the order of merits matters."""
        trial = self._asked.pop(number, None)
        if trial:
            self._study.tell(trial, merit)
        else:
            distributions = _of(self.cube, config)
            self._study.add_trial(create_trial(params=dict(config), distributions=distributions, value=merit))


class Grid:
    """Every combination of the choices, and of both ends and the middle of each range, once and in a random order."""

    def __init__(self, cube: Cube, seed: int) -> None:
        self.cube = cube
        self._values = {name: _points(distribution) for name, distribution in cube.distributions.items()}
        size = math.prod(map(len, self._values.values()))
        rng = random.Random(seed)
        start, step = rng.randrange(size), rng.randrange(1, size + 1)
        while math.gcd(step, size) != 1:
            step = rng.randrange(1, size + 1)
        # each combination once, since size and step share no factor
        self._order = ((start + step * turn) % size for turn in range(size))

    def propose(self, known: Collection[Mapping[str, Any]]) -> Config | None:
        """The next combination that is not among the `known` ones; None when there is none left."""
        for index in self._order:
            config = {}
            for name, values in self._values.items():
                index, place = divmod(index, len(values))
                config[name] = values[place]
            config = self.cube.active(config)
            if config not in known:
                return config
        return None


def _ask(cube: Cube, study: optuna.Study) -> optuna.Trial:
    """A trial with all its hyperparameters; those under a condition come after the choices, where they are met."""
    trial = study.ask({name: d for name, d in cube.distributions.items() if name not in cube.conditions})
    for name, (choice, value) in cube.conditions.items():
        if trial.params[choice] == value:
            suggest(trial, name, cube.distributions[name])
    return trial


def _of(cube: Cube, config: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    return {name: cube.distributions[name] for name in config}


def _points(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    middle = Cube({"": distribution}).config(np.array([0.5]))[""]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return list(dict.fromkeys([distribution.low, middle, distribution.high]))


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    """Has an Optuna trial choose a hyperparameter; its `params` have it then."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    else:
        assert isinstance(distribution, FloatDistribution)
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
