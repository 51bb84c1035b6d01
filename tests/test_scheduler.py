"""ASHA against a ten-line reference, and its promises to the baseline and about NaN."""

import math
import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from tuning.scheduler import Decision, MedianRule, Rungs, RungScheduler, make_scheduler
from tuning.spec import METRIC, StudySpec

SCORES = st.lists(st.tuples(st.sampled_from([1, 3, 9]), st.floats(0, 1)), max_size=60)


def reference(seen: list[float], score: float, factor: int) -> bool:
    """Goes on if fewer than one in `factor` of all so far, itself included and rounded up, are better."""
    if len(seen) + 1 < factor:
        return True
    better = sum(other > score for other in seen)
    return better < math.ceil((len(seen) + 1) / factor)


@given(SCORES, st.integers(2, 4))
def test_decisions_are_those_of_the_reference(reports: list[tuple[int, float]], factor: int) -> None:
    rungs, seen = Rungs(epochs=[1, 3, 9], reduction_factor=factor), defaultdict[int, list[float]](list)
    for key, (epoch, score) in enumerate(reports):
        decision = rungs.decide(key, epoch, score)
        if epoch == 9:
            assert decision is None, "the last rung is the full length"
        else:
            assert decision is not None
            assert decision.go_on == reference(seen[epoch], score, factor)
            seen[epoch].append(score)


def test_a_trial_is_judged_once_a_rung() -> None:
    rungs = Rungs(epochs=[1, 9], reduction_factor=3)
    for key, score in enumerate([0.9, 0.8, 0.7]):
        rungs.decide(key, 1, score)
    assert rungs.decide(0, 1, 0.0) is None
    assert rungs.scores[1] == {0: 0.9, 1: 0.8, 2: 0.7}


def test_the_reason_names_score_cut_off_and_rank() -> None:
    rungs = Rungs(epochs=[3, 9], reduction_factor=2)
    for key, score in enumerate([0.5, 0.649, 0.7]):
        rungs.decide(key, 3, score)
    decision = rungs.decide(9, 3, 0.612)
    assert decision is not None
    assert decision.reason == "stopped at epoch 3: 0.612 below the cut-off 0.649, rank 3 of 4"


def spec(**fields: object) -> StudySpec:
    return StudySpec(**{"model": "resnet20", "name": "x", "epochs": 9, "grace_epochs": 1, "audit": 0.0, **fields})  # type: ignore[arg-type]


def asha(scheduler: RungScheduler) -> Rungs:
    assert isinstance(scheduler.rule, Rungs)
    return scheduler.rule


class FakeTrial:
    def __init__(self, trial_id: str, model: str = "") -> None:
        self.trial_id, self.config = trial_id, {"model": model}


def report(scheduler: RungScheduler, number: int, epoch: int, score: float) -> str:
    result = {"trial": number, "epoch": epoch, METRIC: score}
    return scheduler.on_trial_result(None, FakeTrial(str(number)), result)


def test_the_baseline_is_never_stopped_but_counts() -> None:
    scheduler = make_scheduler(spec())
    for number in range(1, 10):
        report(scheduler, number, 1, 0.5 + number / 100)
    assert report(scheduler, 0, 1, 0.0) == TrialScheduler.CONTINUE
    assert asha(scheduler).scores[1][0] == 0.0


def test_nan_stops_a_trial_at_any_epoch_and_leaves_no_score() -> None:
    scheduler = make_scheduler(spec())
    assert report(scheduler, 1, 2, math.nan) == TrialScheduler.STOP
    assert report(scheduler, 2, 1, math.nan) == TrialScheduler.STOP
    assert all(scores == {} for scores in asha(scheduler).scores.values())


def test_results_of_others_need_no_trial_number() -> None:
    scheduler = make_scheduler(spec())
    decision = scheduler.on_trial_result(None, FakeTrial("a"), {"epoch": 1, METRIC: 0.5})
    assert decision == TrialScheduler.CONTINUE
    assert asha(scheduler).scores[1] == {"a": 0.5}


def test_of_several_objectives_the_dominated_are_stopped() -> None:
    scheduler = make_scheduler(spec(objectives="val_accuracy,latency_ms"))

    def decision(number: int, accuracy: float, latency: float) -> Decision:
        result = {"epoch": 1, METRIC: accuracy, "latency_ms": latency}
        decided = scheduler.decide(number, 1, scheduler.score(result))
        assert decided
        return decided

    front = [(0.9, 9.0), (0.8, 5.0), (0.6, 1.0)]
    assert all(decision(1 + number, *values).go_on for number, values in enumerate(front))
    worse = decision(4, 0.55, 9.5)
    assert not worse.go_on
    assert worse.reason == "stopped at epoch 1: val_accuracy 0.55, latency_ms 9.5, rank 4 of 4"
    assert decision(5, 0.95, 20.0).go_on
    assert decision(6, 0.5, 0.5).go_on
    assert decision(7, math.nan, 0.1).reason == "diverged in epoch 1"


def test_a_broken_constraint_outweighs_any_accuracy() -> None:
    scheduler = make_scheduler(spec(constraints="latency_ms<5"))
    scores = [scheduler.score({METRIC: 0.5, "latency_ms": 1.0 + number}) for number in range(4)]
    assert all(scheduler.decide(1 + number, 1, score) for number, score in enumerate(scores))
    decided = scheduler.decide(9, 1, scheduler.score({METRIC: 0.99, "latency_ms": 6.0}))
    assert decided
    assert decided.reason == "stopped at epoch 1: val_accuracy 0.99, constraints violated, rank 5 of 5"


@pytest.mark.parametrize("rule", ["asha", "median"])
def test_architectures_are_compared_with_their_own_kind(rule: str) -> None:
    """One that starts slowly would lose all its trials to one that starts fast."""
    scheduler = make_scheduler(spec(scheduler=rule, rivals=("se_resnet20",)))

    def decision(number: int, model: str, score: float) -> str:
        result = {"trial": number, "epoch": 1, METRIC: score}
        return scheduler.on_trial_result(None, FakeTrial(str(number), model), result)

    assert {decision(number, "fast", 0.9) for number in range(10)} == {TrialScheduler.CONTINUE}
    assert {decision(10 + number, "slow", 0.1) for number in range(10)} == {TrialScheduler.CONTINUE}
    assert decision(20, "slow", 0.05) == TrialScheduler.STOP
    assert decision(21, "fast", 0.5) == TrialScheduler.STOP


def test_without_early_stopping_nobody_is_stopped() -> None:
    scheduler = make_scheduler(spec(scheduler="none"))
    assert {report(scheduler, n, e, 1 / (1 + n)) for n in range(20) for e in (1, 3, 9)} == {TrialScheduler.CONTINUE}


def test_a_share_of_the_stopped_is_audited_and_never_asked_again() -> None:
    scheduler = make_scheduler(spec(audit=0.2, epochs=27))
    stopped = audited = 0
    for number in range(1, 400):
        if report(scheduler, number, 1, 1 / number) == TrialScheduler.STOP:
            stopped += 1
        elif scheduler.decisions[number].audited:
            audited += 1
            assert scheduler.decisions[number].reason.startswith("audited, else stopped at epoch 1: ")
            assert report(scheduler, number, 3, -1.0) == TrialScheduler.CONTINUE
    assert 0.14 < audited / (audited + stopped) < 0.26


def test_a_trial_that_diverges_is_never_audited() -> None:
    scheduler = make_scheduler(spec(audit=1.0))
    assert report(scheduler, 1, 1, math.nan) == TrialScheduler.STOP


def test_brackets_share_the_epochs_and_compare_with_their_own_kind() -> None:
    rungs = Rungs(epochs=[1, 3, 9, 27], reduction_factor=3, brackets=4)
    kinds = [rungs.bracket(key) for key in range(4000)]
    assert kinds == [rungs.bracket(key) for key in range(4000)], "a resumed study draws the same"
    cost = [1 + 2 / 3 + 6 / 9 + 18 / 27, 3 + 6 / 3 + 18 / 9, 9 + 18 / 3, 27.0]
    spent = [kinds.count(bracket) * cost[bracket] for bracket in range(4)]
    assert max(spent) < 1.25 * min(spent)
    first, second = kinds.index(0), [key for key in range(4000) if kinds[key] == 1][:4]
    assert rungs.decide(second[0], 1, 0.1) is None, "not compared before its first rung"
    for key, score in zip(second, (0.1, 0.2, 0.3, 0.15), strict=True):
        decision = rungs.decide(key, 3, score)
    assert decision
    assert not decision.go_on
    decision = rungs.decide(first, 3, 0.0)
    assert decision
    assert decision.reason.endswith("rank 1 of 1")


def test_nobody_is_cut_within_the_noise_of_the_validation_images() -> None:
    exact, spared = make_scheduler(spec()), make_scheduler(spec(spare_noise=True), val_images=100)
    for number, score in enumerate([0.80, 0.80, 0.80, 0.75, 0.70], start=1):
        report(exact, number, 1, score)
        report(spared, number, 1, score)
    assert [exact.decisions[number].go_on for number in (4, 5)] == [False, False]
    assert [spared.decisions[number].go_on for number in (4, 5)] == [True, False], "0.061 is the noise of 100 images"
    assert "within noise of the cut-off 0.800" in spared.decisions[4].reason


def test_the_median_rule_against_its_definition() -> None:
    rule = MedianRule(epochs=[2, 9], fewest=3)
    for key, scores in enumerate([[0.5, 0.7], [0.1, 0.3], [0.2, 0.6]]):
        for epoch, score in enumerate(scores, start=1):
            assert rule.decide(key, epoch, score) is None, "fewer than three others"
    assert rule.decide(3, 1, 0.0) is None, "before the first rung"
    assert rule.decide(4, 1, 0.0) is None
    better, worse = rule.decide(3, 2, 0.4), rule.decide(4, 2, 0.2)
    assert better is None
    assert worse
    assert worse.reason == "stopped at epoch 2: 0.200 below the median 0.300 of 4 others"
    nan = rule.decide(5, 1, math.nan)
    assert nan
    assert not nan.go_on


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_a_replayed_scheduler_decides_as_if_never_stopped(name: str) -> None:
    first, second = make_scheduler(spec(scheduler=name)), make_scheduler(spec(scheduler=name))
    rng = random.Random(0)
    for number in range(40):
        for epoch in range(1, 10):
            score = rng.random()
            second.replay(number, epoch, score)
            if report(first, number, epoch, score) == TrialScheduler.STOP:
                break
    for number in range(40, 80):
        scores = [rng.random() for _ in range(9)]
        for scheduler in (first, second):
            for epoch, score in enumerate(scores, start=1):
                if report(scheduler, number, epoch, score) == TrialScheduler.STOP:
                    break
        assert first.decisions.get(number) == second.decisions.get(number)


def test_a_combination_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="scheduler pbt changes hyperparameters while it trains"):
        spec(scheduler="pbt")
    with pytest.raises(ValueError, match="brackets are asha's, got 2 with scheduler 'median'"):
        spec(scheduler="median", brackets=2)
