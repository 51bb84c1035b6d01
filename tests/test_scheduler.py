"""ASHA against a ten-line reference, and its promises to the baseline and about NaN."""

import math
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from tuning.scheduler import Rungs, RungScheduler, make_scheduler
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
    rungs, seen = Rungs([1, 3, 9], factor), defaultdict[int, list[float]](list)
    for key, (epoch, score) in enumerate(reports):
        decision = rungs.decide(key, epoch, score)
        if epoch == 9:
            assert decision is None, "the last rung is the full length"
        else:
            assert decision is not None
            assert decision.go_on == reference(seen[epoch], score, factor)
            seen[epoch].append(score)


def test_a_trial_is_judged_once_a_rung() -> None:
    rungs = Rungs([1, 9], 3)
    for key, score in enumerate([0.9, 0.8, 0.7]):
        rungs.decide(key, 1, score)
    assert rungs.decide(0, 1, 0.0) is None
    assert rungs.scores[1] == {0: 0.9, 1: 0.8, 2: 0.7}


def test_the_reason_names_score_cut_off_and_rank() -> None:
    rungs = Rungs([3, 9], 2)
    for key, score in enumerate([0.5, 0.649, 0.7]):
        rungs.decide(key, 3, score)
    decision = rungs.decide(9, 3, 0.612)
    assert decision is not None
    assert decision.reason == "stopped at epoch 3: 0.612 below the cut-off 0.649, rank 3 of 4"


def spec(**fields: object) -> StudySpec:
    return StudySpec(**{"model": "resnet20", "name": "x", "epochs": 9, "grace_epochs": 1, **fields})  # type: ignore[arg-type]


class FakeTrial:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def report(scheduler: RungScheduler, number: int, epoch: int, score: float) -> str:
    result = {"trial": number, "epoch": epoch, METRIC: score}
    return scheduler.on_trial_result(None, FakeTrial(str(number)), result)  # type: ignore[arg-type]


def test_the_baseline_is_never_stopped_but_counts() -> None:
    scheduler = make_scheduler(spec())
    for number in range(1, 10):
        report(scheduler, number, 1, 0.5 + number / 100)
    assert report(scheduler, 0, 1, 0.0) == TrialScheduler.CONTINUE
    assert scheduler.rungs.scores[1][0] == 0.0


def test_nan_stops_a_trial_at_any_epoch_and_leaves_no_score() -> None:
    scheduler = make_scheduler(spec())
    assert report(scheduler, 1, 2, math.nan) == TrialScheduler.STOP
    assert report(scheduler, 2, 1, math.nan) == TrialScheduler.STOP
    assert all(scores == {} for scores in scheduler.rungs.scores.values())


def test_results_of_others_need_no_trial_number() -> None:
    scheduler = make_scheduler(spec())
    decision = scheduler.on_trial_result(None, FakeTrial("a"), {"epoch": 1, METRIC: 0.5})  # type: ignore[arg-type]
    assert decision == TrialScheduler.CONTINUE
    assert scheduler.rungs.scores[1] == {"a": 0.5}


def test_without_early_stopping_nobody_is_stopped() -> None:
    scheduler = make_scheduler(spec(scheduler="none"))
    assert {report(scheduler, n, e, 1 / (1 + n)) for n in range(20) for e in (1, 3, 9)} == {TrialScheduler.CONTINUE}
