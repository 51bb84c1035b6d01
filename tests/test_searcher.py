"""The searcher proposes inside the space, starts with the baseline, and finds what the rungs show."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from ray.tune.search import Searcher

import search_spaces
from tuning.objectives import Constraint, Objectives
from tuning.searcher import RungSearcher
from tuning.spec import METRIC

SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0, 1),
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "kind": CategoricalDistribution(("a", "b")),
}
BASELINE = {"x": 0.9, "lr": 0.5, "kind": "b"}


def searcher(seed: int = 0, **options: Any) -> RungSearcher:
    arguments = {"metric": "acc", "mode": "max", "baseline": BASELINE, "rungs": (1, 3, 9), **options}
    return RungSearcher(SPACE, seed=seed, **arguments)


def quality(config: dict[str, Any]) -> float:
    return float(
        1 - (config["x"] - 0.3) ** 2 - 0.05 * abs(math.log10(config["lr"]) + 2) - 0.2 * (config["kind"] == "b")
    )


def proposal(search: RungSearcher, number: int) -> dict[str, Any]:
    config = search.suggest(str(number))
    assert isinstance(config, dict), config
    return config


def acc(scores: Mapping[int, Any]) -> dict[int, dict[str, Any]]:
    """Results by epoch."""
    return {epoch: {"acc": score} for epoch, score in scores.items()}


def run(search: RungSearcher, trials: int, start: int = 0) -> list[dict[str, Any]]:
    """Each trial to epoch 9 if it is good at epoch 1, else stopped there, as Ray tells it."""
    configs = []
    for number in range(start, start + trials):
        config = proposal(search, number)
        score = quality(config)
        if score > 0.8:
            for epoch in (1, 2, 3):
                search.on_trial_result(str(number), {"epoch": epoch, "acc": score})
            search.on_trial_complete(str(number), {"epoch": 9, "acc": score})
        else:
            search.on_trial_complete(str(number), {"epoch": 1, "acc": score})
        configs.append(config)
    return configs


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_lie_in_the_space_and_start_with_the_baseline(sampler: str) -> None:
    configs = run(searcher(sampler=sampler), 40)
    assert configs[0] == BASELINE
    for config in configs:
        assert set(config) == set(SPACE)
        assert all(SPACE[k]._contains(SPACE[k].to_internal_repr(v)) for k, v in config.items())


def test_the_same_seed_gives_the_same_proposals_another_seed_others() -> None:
    assert run(searcher(3), 30) == run(searcher(3), 30)
    assert run(searcher(3), 30) != run(searcher(4), 30)


def test_there_may_be_no_baseline() -> None:
    assert searcher(baseline=None).suggest("0") != BASELINE


def test_it_learns_better_than_chance() -> None:
    """The last third of the proposals is better with the model than without, over four seeds."""

    def late(sampler: str) -> float:
        runs = [run(searcher(seed, sampler=sampler), 60)[40:] for seed in range(4)]
        return sum(quality(config) for configs in runs for config in configs) / 80

    assert late("gp") > late("random") + 0.05, (late("gp"), late("random"))


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_several_objectives_are_searched_for_their_front(sampler: str) -> None:
    """Between accuracy, best at 0.2, and latency, best at 0.6, lies the front; the rest is worse in both."""
    search = searcher(sampler=sampler, metric=METRIC, goals=Objectives((METRIC, "latency_ms")))
    for number in range(80):
        x = proposal(search, number)["x"]
        search.on_trial_complete(str(number), {"epoch": 9, METRIC: -((x - 0.2) ** 2), "latency_ms": (x - 0.6) ** 2})
    modelled = [trial.config["x"] for trial in search.trials.values() if trial.source == "model"]
    assert sum(0.2 <= x <= 0.6 for x in modelled) > 0.6 * len(modelled), modelled
    assert max(modelled) - min(x for x in modelled if x >= 0.2) > 0.2, "all along the front"


def test_what_breaks_a_constraint_is_worse_than_what_keeps_it() -> None:
    goals = Objectives((METRIC,), (Constraint("latency_ms", 5.0),))
    search = searcher(metric=METRIC, goals=goals)
    for number, (score, latency) in enumerate([(0.5, 1.0), (0.9, 6.0), (0.4, 5.0), (0.95, 50.0), (math.nan, 1.0)]):
        search.suggest(str(number))
        search.on_trial_complete(str(number), {"epoch": 1, METRIC: score, "latency_ms": latency})
    merits = dict(zip("abcde", search._merits([trial.scores[1] for trial in search._at(1)]), strict=True))
    assert sorted(merits, key=lambda name: -merits[name]) == list("acbde")
    assert merits["e"] == -math.inf


def test_minimising_is_maximising_the_opposite() -> None:
    search = searcher(mode="min")
    for number in range(60):
        config = proposal(search, number)
        search.on_trial_complete(str(number), {"epoch": 9, "acc": -quality(config)})
    assert sum(quality(search._model(60, seed) or {}) for seed in range(5)) / 5 > 0.85


def test_nothing_stays_pending_when_all_trials_have_ended() -> None:
    search = searcher()
    run(search, 30)
    search.suggest("lost")
    search.on_trial_complete("lost", None, error=True)
    search.suggest("diverged")
    search.on_trial_complete("diverged", {"epoch": 2, "acc": math.nan})
    assert search._pending() == []


def test_running_trials_are_pending_until_they_have_a_score_at_the_rung() -> None:
    search = searcher()
    run(search, 30)
    configs = [search.suggest(f"more {number}") for number in range(5)]
    assert search._pending(3) == configs
    search.on_trial_result("more 0", {"epoch": 3, "acc": 0.5})
    assert search._pending(3) == configs[1:]
    assert search._pending(9) == configs


def test_pending_trials_keep_a_model_from_proposing_the_same_again() -> None:
    """Where nothing of one half is known, waiting trials are spread over it."""
    search = RungSearcher({"x": FloatDistribution(0, 1)}, metric="acc", mode="max", baseline=None, rungs=(1,), seed=0)
    for number in range(10):
        search.replay(number, {"x": number / 20}, acc({1: number / 20}), finished=True)
    points = []
    for number in range(10, 16):
        config = search._model(number, number)
        assert config
        search.trials[number] = replace(search.trials[0], config=config, scores={}, pending=True)
        points.append(config["x"])
    gaps = [second - first for first, second in pairwise(sorted(points))]
    assert min(points) > 0.45
    assert max(points) - min(points) > 0.2
    assert sorted(gaps)[1] > 0.01


def test_divergence_and_failure_are_the_worst_of_their_rung_and_of_all_above() -> None:
    search = searcher()
    search.suggest("0")
    search.on_trial_complete("0", {"epoch": 2, "acc": math.nan})
    search.suggest("1")
    search.on_trial_complete("1", None, error=True)
    assert search.trials[0].scores == {3: -math.inf, 9: -math.inf}
    assert search.trials[1].scores == {1: -math.inf, 3: -math.inf, 9: -math.inf}
    run(search, 30, start=2)  # and the model can live with that
    merits = search._observations(9)
    assert [merit for config, merit in merits[:2]] == [min(merit for _, merit in merits)] * 2


def test_an_early_score_is_no_final_score() -> None:
    """Trials that were stopped at the first rung are unknown at the last, and scores of unlike lengths never mix."""
    search = searcher()
    run(search, 40)
    last = {number for number, trial in search.trials.items() if 9 in trial.scores}
    assert 10 <= len(last) < 40
    assert search._modelled_rung() == 9
    expected = [(search.trials[number].config, search.trials[number].scores[9]) for number in sorted(last)]
    assert search._observations(9) == expected
    assert {(rung, score) for _, rung, score in search._readings()} == {
        (rung, score) for trial in search.trials.values() for rung, score in trial.scores.items()
    }


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_replayed_study_goes_on_as_if_never_stopped(sampler: str) -> None:
    first = searcher(sampler=sampler)
    configs = run(first, 30)
    second = searcher(sampler=sampler)
    for number, trial in first.trials.items():
        second.replay(number, trial.config, acc(trial.scores), finished=True)
    assert [second.suggest(f"new {n}") for n in range(3)] == [first.suggest(f"new {n}") for n in range(3)]
    assert second.numbers["new 0"] == 30
    assert second.suggest("new") not in configs


def test_unfinished_trials_come_first_under_their_old_numbers() -> None:
    configs = run(searcher(), 12)
    second = searcher()
    for number, config in enumerate(configs[:10]):
        second.replay(number, config, acc({1: quality(config)}), finished=True)
    second.replay(10, configs[10], acc({1: quality(configs[10])}), finished=False)
    assert second.suggest("again") == configs[10]
    assert second.numbers["again"] == 10
    assert second.trials[10].scores == {1: quality(configs[10])}
    second.suggest("new")
    assert second.numbers["new"] == 11


def test_given_configurations_follow_the_baseline_once() -> None:
    given = {"x": 0.1, "lr": 0.01, "kind": "a"}
    search = searcher(first=[given])
    assert run(search, 2) == [BASELINE, given]
    again = searcher(first=[given])
    for number, trial in search.trials.items():
        again.replay(number, trial.config, acc(trial.scores), finished=True)
    assert again.suggest("next") not in (BASELINE, given)


def best_of(search: RungSearcher, trials: int) -> float:
    return max(quality(config) for config in run(search, trials))


def test_a_right_prior_helps_and_a_wrong_one_fades() -> None:
    """The prior's proposals are trusted less with each that is worse than the median of the others."""
    pool = run(searcher(7, sampler="random", baseline=None), 60)
    right = [(config, quality(config)) for config in pool]
    wrong = [(config, -quality(config)) for config in pool]
    scores, trust = dict[str, float](), dict[str, float]()
    for name, prior in {"none": [], "right": right, "wrong": wrong}.items():
        searches = [searcher(seed, prior=prior, baseline=None) for seed in range(8)]
        scores[name] = sum(best_of(search, 15) for search in searches) / 8
        trust[name] = sum(search._trust("prior") for search in searches) / 8
    assert scores["right"] > scores["none"]
    assert trust["right"] > 0.8
    assert trust["wrong"] < 0.5


def test_a_prior_that_does_not_fit_the_space_is_left_out() -> None:
    search = searcher(prior=[({"x": 0.5, "lr": 0.1, "kind": "c"}, 1.0), ({"x": 0.5}, 1.0), (BASELINE, 0.5)])
    assert search.prior == [(BASELINE, 0.5)]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_sampler_learns_from_the_trials(sampler: str) -> None:
    """The best of 60 is better than that of random search, in the mean over six seeds."""
    found = [best_of(searcher(seed, sampler=sampler, baseline=None), 60) for seed in range(6)]
    chance = [best_of(searcher(seed, sampler="random", baseline=None), 60) for seed in range(6)]
    assert sum(found) > sum(chance)


def test_a_grid_has_every_combination_once_and_then_ends() -> None:
    search = searcher(sampler="grid", baseline=None)
    found: list[tuple[float, float, str]] = []
    while isinstance(config := search.suggest(str(len(found))), dict):
        found.append((config["x"], round(config["lr"], 6), config["kind"]))
        search.on_trial_complete(str(len(found) - 1), {"epoch": 9, "acc": 0.5})
    assert config == Searcher.FINISHED
    assert sorted(found) == sorted((x, lr, kind) for x in (0, 0.5, 1) for lr in (1e-4, 1e-2, 1.0) for kind in "ab")


def test_a_resumed_grid_goes_on_with_the_rest() -> None:
    first = searcher(sampler="grid")
    configs = run(first, 10)
    again = searcher(sampler="grid")
    for number, config in enumerate(configs):
        again.replay(number, config, acc({9: 0.5}), finished=True)
    assert again.suggest("new") == first.suggest("new")


def test_some_proposals_stay_near_the_published_recipe() -> None:
    search = searcher(sampler="tpe")
    run(search, 60)
    sources = [trial.source for trial in search.trials.values()]
    assert sources[0] == "given"
    assert 5 <= sources.count("near baseline") <= 25
    assert 5 <= sources.count("uniform") <= 25
    assert sources.count("model") >= 20


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_what_a_model_is_fitted_on_does_not_grow_with_the_study(sampler: str) -> None:
    search = searcher(sampler=sampler)
    rng = random.Random(0)
    for number in range(3000):
        config = {"x": rng.random(), "lr": 10 ** rng.uniform(-4, 0), "kind": rng.choice("ab")}
        search.replay(number, config, acc({1: rng.random(), 3: rng.random(), 9: quality(config)}), finished=True)
    assert sum(quality(search._model(3000 + n, n) or {}) for n in range(5)) / 5 > 0.9


@pytest.mark.parametrize("name", ["resnet20", "alexnet", "inception_v3", "efficientnet_b0", "vit_b_16", "timm:any"])
def test_a_table_is_searched_conditions_included(name: str) -> None:
    space = search_spaces.for_model(name)
    search = RungSearcher(
        space.distributions,
        metric="acc",
        mode="max",
        baseline=space.active(space.baseline),
        rungs=(1, 3),
        seed=0,
        conditions=space.conditions,
    )
    policies = set()
    for number in range(40):
        config = proposal(search, number)
        assert config == space.active({**space.baseline, **config})
        assert set(config) == set(space.active({**space.baseline, **config}))
        policies.add(config["policy"])
        search.on_trial_complete(str(number), {"epoch": 3, "acc": number / 40})
    assert policies == {"none", "trivial_augment", "rand_augment"}


def test_a_model_learns_what_stands_under_a_condition() -> None:
    """The best trials have kind b and its own x near 0.8, which only trials of that kind have."""
    distributions = {"kind": CategoricalDistribution(("a", "b")), "x": FloatDistribution(0, 1)}
    conditions = {"x": ("kind", "b")}
    search = RungSearcher(
        distributions, metric="acc", mode="max", baseline=None, rungs=(1,), seed=0, conditions=conditions
    )
    late = []
    for number in range(80):
        config = proposal(search, number)
        assert ("x" in config) == (config["kind"] == "b")
        score = 1 - abs(config["x"] - 0.8) if config["kind"] == "b" else 0.3
        search.on_trial_complete(str(number), {"epoch": 1, "acc": score})
        late += [score] if number >= 40 else []
    assert sum(late) / len(late) > 0.65, "random search has 0.5"
