"""The searcher proposes inside the space, starts with the baseline, and finds what the rungs show."""

import math
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

import search_spaces
from tuning.searcher import RungSearcher

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
    return 1 - (config["x"] - 0.3) ** 2 - 0.05 * abs(math.log10(config["lr"]) + 2) - 0.2 * (config["kind"] == "b")


def run(search: RungSearcher, trials: int, start: int = 0) -> list[dict[str, Any]]:
    """Each trial to epoch 9 if it is good at epoch 1, else stopped there, as Ray tells it."""
    configs = []
    for number in range(start, start + trials):
        config = search.suggest(str(number))
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
    """The last third of the proposals is better with the model than without, over ten seeds."""

    def late(sampler: str) -> float:
        runs = [run(searcher(seed, sampler=sampler), 60)[40:] for seed in range(10)]
        return sum(quality(config) for configs in runs for config in configs)

    assert late("tpe") > late("random") + 20 * 0.5


def test_minimising_is_maximising_the_opposite() -> None:
    search = searcher(mode="min")
    for number in range(60):
        config = search.suggest(str(number))
        search.on_trial_complete(str(number), {"epoch": 9, "acc": -quality(config)})
    assert sum(quality(search.suggest(f"more {i}")) for i in range(10)) / 10 > 0.85


def test_nothing_stays_pending_when_all_trials_have_ended() -> None:
    search = searcher()
    run(search, 30)
    search.suggest("lost")
    search.on_trial_complete("lost", None, error=True)
    search.suggest("diverged")
    search.on_trial_complete("diverged", {"epoch": 2, "acc": math.nan})
    states = [trial.state for study in search._studies.values() for trial in study.get_trials(deepcopy=False)]
    assert TrialState.RUNNING not in states


def test_running_trials_count_as_pending() -> None:
    search = searcher()
    run(search, 30)
    for number in range(20):
        search.suggest(f"more {number}")
    states = [trial.state for study in search._studies.values() for trial in study.get_trials(deepcopy=False)]
    assert 5 < states.count(TrialState.RUNNING) <= 20, "those that a model proposed"


def test_divergence_and_failure_are_the_worst_of_their_rung_and_of_all_above() -> None:
    search = searcher()
    search.suggest("0")
    search.on_trial_complete("0", {"epoch": 2, "acc": math.nan})
    search.suggest("1")
    search.on_trial_complete("1", None, error=True)
    assert search._scores == {1: {1: -math.inf}, 3: {0: -math.inf, 1: -math.inf}, 9: {0: -math.inf, 1: -math.inf}}
    run(search, 30, start=2)  # and the model can live with that


def test_an_early_score_is_no_final_score() -> None:
    search = searcher()
    run(search, 30)
    stopped = [number for number in search._scores[1] if number not in search._scores[9]]
    assert stopped
    values = [trial.value for trial in search._studies[9].get_trials(deepcopy=False, states=[TrialState.COMPLETE])]
    real = [value for value in values if value is not None and value > 0]
    assert sorted(real) == sorted(search._scores[9].values())
    assert len(values) - len(real) == len(stopped), "a stopped trial counts there, but below all that got so far"


def test_a_replayed_study_goes_on_with_its_numbers_and_other_random_choices() -> None:
    first = searcher()
    configs = run(first, 12)
    second = searcher()
    for number, config in enumerate(configs[:10]):
        second.replay(number, config, {1: quality(config)}, finished=True)
    assert second._scores[9] == {}
    second.replay(10, configs[10], {1: quality(configs[10])}, finished=False)
    assert second._scores[1] == {number: quality(config) for number, config in enumerate(configs[:11])}
    assert second.suggest("again") == configs[10]
    assert second.numbers["again"] == 10
    assert second.suggest("new") not in configs
    assert second.numbers["new"] == 11


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
        config = search.suggest(str(number))
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
        config = search.suggest(str(number))
        assert ("x" in config) == (config["kind"] == "b")
        score = 1 - abs(config["x"] - 0.8) if config["kind"] == "b" else 0.3
        search.on_trial_complete(str(number), {"epoch": 1, "acc": score})
        late += [score] if number >= 40 else []
    assert sum(late) / len(late) > 0.65, "random search has 0.5"
