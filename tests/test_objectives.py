"""Several objectives: an order of trials that agrees with domination, and clear words for what makes no sense."""

import math
import random
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.objectives import Constraint, Objectives, parse

TWO = parse("val_accuracy,latency_ms", "")
LIMITED = parse("val_accuracy,latency_ms,parameters", "latency_ms<5,val_accuracy>0.3")
COARSE = st.integers(0, 8)  # few values, so that many tie
METRICS = st.fixed_dictionaries(
    {
        "val_accuracy": COARSE.map(lambda x: x / 8) | st.just(math.nan),
        "latency_ms": COARSE.map(float),
        "parameters": COARSE.map(lambda x: 1000 * x),
    }
)
TRIALS = st.lists(METRICS, max_size=25)
EVERY = st.sampled_from([parse("val_accuracy", "latency_ms<5"), TWO, LIMITED])


def dominates(a: Mapping[str, float], b: Mapping[str, float], goals: Objectives) -> bool:
    """Deb's constrained domination, by its definition; NaN is below everything."""
    if math.isnan(a["val_accuracy"]) or math.isnan(b["val_accuracy"]):
        return not math.isnan(a["val_accuracy"]) and math.isnan(b["val_accuracy"])
    if goals.violation(a) or goals.violation(b):
        return goals.violation(a) < goals.violation(b)
    signs = [1 if name == "val_accuracy" else -1 for name in goals.names]
    x, y = ([sign * m[name] for sign, name in zip(signs, goals.names, strict=True)] for m in (a, b))
    return x != y and all(left >= right for left, right in zip(x, y, strict=True))


@given(TRIALS, EVERY)
def test_who_dominates_has_more_merit(trials: list[dict[str, float]], goals: Objectives) -> None:
    merits = goals.merits([goals.of(trial) for trial in trials])
    for a, merit in zip(trials, merits, strict=True):
        for b, other in zip(trials, merits, strict=True):
            if dominates(a, b, goals):
                assert merit > other


@given(TRIALS, EVERY)
def test_the_front_is_those_whom_nobody_dominates(trials: list[dict[str, float]], goals: Objectives) -> None:
    front = goals.front([goals.of(trial) for trial in trials])
    assert front == [
        index
        for index, trial in enumerate(trials)
        if goals.violation(trial) == 0
        and not math.isnan(trial["val_accuracy"])
        and not any(dominates(other, trial, goals) for other in trials)
    ]


@given(TRIALS, EVERY, st.randoms(use_true_random=False))
def test_merits_do_not_depend_on_the_order(
    trials: list[dict[str, float]], goals: Objectives, shuffle: random.Random
) -> None:
    values = [goals.of(trial) for trial in trials]
    order = list(range(len(values)))
    shuffle.shuffle(order)
    merits = goals.merits(values)
    assert goals.merits([values[index] for index in order]) == [merits[index] for index in order]


@given(TRIALS, EVERY)
def test_a_better_front_has_more_merit_whatever_the_crowding(trials: list[dict[str, float]], goals: Objectives) -> None:
    """Peels front after front off, as the paper defines the fronts."""
    values = [goals.of(trial) for trial in trials]
    merits, left, worst = goals.merits(values), list(range(len(values))), math.inf
    while front := [left[index] for index in goals.front([values[index] for index in left])]:
        assert max(merits[index] for index in front) < worst
        worst = min(merits[index] for index in front)
        left = [index for index in left if index not in front]
    assert all(merits[index] < worst for index in left)


@given(st.lists(st.floats(0, 1)))
def test_one_unconstrained_objective_is_its_own_merit(scores: list[float]) -> None:
    goals = parse("val_accuracy", "")
    assert goals.merits([goals.of({"val_accuracy": score}) for score in scores]) == scores


def test_nan_and_missing_metrics_are_below_everything() -> None:
    for goals in (TWO, LIMITED, parse("val_accuracy", "")):
        bad = {"val_accuracy": 0.0, "latency_ms": 1e9, "parameters": 1e9}
        values = [goals.of({"val_accuracy": math.nan}), goals.of(bad)]
        merits = goals.merits(values)
        assert merits[0] == -math.inf < merits[1]
    assert math.isnan(TWO.of({"val_accuracy": 0.5})[0])


def test_lonely_members_of_a_front_come_before_crowded_ones() -> None:
    trials = [(0.1, 0.0), (0.5, 5.0), (0.51, 5.1), (0.52, 5.2), (0.8, 8.0), (1.0, 10.0)]
    merits = TWO.merits([TWO.of({"val_accuracy": a, "latency_ms": ms}) for a, ms in trials])
    assert sorted(range(6), key=lambda i: -merits[i])[:3] in ([0, 5, 4], [5, 0, 4])
    assert min(range(6), key=lambda i: merits[i]) == 2


def test_the_loneliest_of_the_second_front_comes_after_the_most_crowded_of_the_first() -> None:
    first = [(step / 20, float(step)) for step in range(21)]
    merits = TWO.merits([TWO.of({"val_accuracy": a, "latency_ms": ms}) for a, ms in [*first, (0.2, 20.5)]])
    assert merits[-1] < min(merits[:-1])


def test_infeasible_trials_are_ordered_by_how_much_they_violate() -> None:
    goals = parse("val_accuracy,latency_ms", "latency_ms<5")
    trials = [(0.1, 4.9), (0.99, 5.5), (0.999, 50.0)]
    merits = goals.merits([goals.of({"val_accuracy": a, "latency_ms": ms}) for a, ms in trials])
    assert merits == sorted(merits, reverse=True)
    assert len(set(merits)) == 3


def test_what_a_violated_constraint_is_called() -> None:
    assert LIMITED.broken({"latency_ms": 7.2149, "val_accuracy": 0.5}) == "latency_ms 7.215 violates latency_ms<5"
    assert LIMITED.broken({"parameters": 1e9}) == ""
    small = parse("val_accuracy", "parameters<5e6")
    assert small.broken({"parameters": 11689512}) == "parameters 11689512 violates parameters<5000000"
    assert Constraint("latency_ms", 5).violation(5) == 0, "the limit itself is allowed"
    assert Constraint("latency_ms", 5).violation(10) == 1
    assert Constraint("val_accuracy", 0.8).violation(0.4) == 0.5


def test_only_what_is_named_is_measured() -> None:
    assert parse("val_accuracy", "").costs == ()
    assert LIMITED.costs == ("parameters", "latency_ms")
    assert parse("val_accuracy,val_loss", "gpu_memory_mb<8e3").costs == ("gpu_memory_mb",)
    assert str(LIMITED) == "val_accuracy, latency_ms, parameters, latency_ms<5, val_accuracy>0.3"


@pytest.mark.parametrize(
    ("objectives", "constraints", "message"),
    [
        ("val_accuracy,speed", "", "objectives: unknown metric 'speed'; known: val_accuracy, val_loss, parameters, l"),
        ("latency_ms", "", "objectives must begin with val_accuracy, which chooses the winner, got 'latency_ms'"),
        ("val_accuracy,latency_ms,latency_ms", "", "objectives names latency_ms 2 times"),
        ("", "", "objectives: unknown metric ''"),
        ("val_accuracy", "latency_ms", "constraints must be like latency_ms<5,val_accuracy>0.9, got 'latency_ms'"),
        ("val_accuracy", "latency_ms<=5", "the limit of latency_ms must be a number, got '=5'"),
        ("val_accuracy", "latency_ms>5", "latency_ms is better the smaller; write latency_ms<5, got 'latency_ms>5'"),
        ("val_accuracy", "val_accuracy<1", "val_accuracy is better the larger; write val_accuracy>1"),
        ("val_accuracy", "size<5", "constraints: unknown metric 'size'; known: val_accuracy"),
        ("val_accuracy", "latency_ms<nan", "the limit of latency_ms must be a number, got 'nan'"),
        ("val_accuracy", "latency_ms<5,latency_ms<6", "constraints limits latency_ms 2 times; keep the strictest"),
        ("val_accuracy", "latency_ms<5,", "constraints must be like .* got ''"),
    ],
)
def test_what_makes_no_sense_is_named(objectives: str, constraints: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(objectives, constraints)


def test_a_thousand_trials_are_sorted_at_once() -> None:
    source = random.Random(0)
    values = [TWO.of({"val_accuracy": source.random(), "latency_ms": source.random()}) for _ in range(1000)]
    start = time.process_time()
    TWO.merits(values)
    assert time.process_time() - start < 0.05
