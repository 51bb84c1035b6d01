"""What a study has used is the same however often it was cut off and looked at; budgets end it at the right moment."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.budget import NAMES, Meter, reached
from tuning.spec import StudySpec


def spec(**fields: Any) -> StudySpec:
    return StudySpec(**{"model": "resnet20", "name": "x", **fields})


def event(kind: str, time: float, trial: int = 0) -> dict[str, Any]:
    return {"event": kind, "time": time, "trial": trial}


RUN = [
    event("search", 100),
    event("start", 110, 0),
    event("start", 112, 1),
    event("report", 120, 0),
    event("report", 121, 1),
    event("end", 121, 1),
    event("report", 130, 0),
]


def metered(events: list[dict[str, Any]]) -> Meter:
    meter = Meter()
    for one in events:
        meter.observe(one)
    return meter


def test_epochs_search_time_and_the_time_of_trials_add_up() -> None:
    meter = metered(RUN)
    assert (meter.epochs, meter.seconds, meter.trial_seconds) == (3, 30.0, 20.0 + 9.0)


def test_the_time_between_two_runs_and_after_a_search_does_not_count() -> None:
    killed = [*RUN, event("search", 1000), event("start", 1001, 0), event("report", 1005, 0)]
    assert (metered(killed).seconds, metered(killed).trial_seconds) == (35.0, 29.0 + 4.0)
    finals = [*RUN, event("end", 130, 0), event("test", 500), event("result", 600), event("done", 700)]
    assert metered(finals).seconds == 30.0


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    meter = metered([*RUN, event("report", 50, 0), event("end", 60, 0)])
    assert (meter.seconds, meter.trial_seconds) == (40.0, 39.0)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of a study that was cut off now and then, in whole seconds, so that sums are exact."""
    kinds = st.sampled_from(["search", "start", "report", "end"])
    steps = draw(st.lists(st.tuples(kinds, st.integers(0, 9), st.integers(0, 3)), max_size=40))
    now, events = 0, [event("search", 0)]
    for kind, passed, trial in steps:
        now += passed
        events.append(event(kind, now, trial))
    return events


@given(histories(), st.data())
def test_looking_at_the_meter_changes_nothing(history: list[dict[str, Any]], data: st.DataObject) -> None:
    watched = Meter()
    for one, following in itertools.pairwise(history):
        watched.observe(one)
        if following["event"] != "search":  # else the study was cut off in between
            watched.advance(data.draw(st.integers(one["time"], following["time"])))
    watched.observe(history[-1])
    assert watched == metered(history)


@given(histories())
def test_no_meter_runs_backwards_and_trials_take_the_search_times_their_number_at_most(
    history: list[dict[str, Any]],
) -> None:
    meter, before = Meter(), (0, 0.0, 0.0)
    for one in history:
        meter.observe(one)
        now = (meter.epochs, meter.seconds, meter.trial_seconds)
        assert all(new >= old for new, old in zip(now, before, strict=True))
        before = now
    assert meter.trial_seconds <= 4 * meter.seconds


@pytest.mark.parametrize(
    ("fields", "gpus", "expected"),
    [
        ({}, 1.0, None),
        ({"epoch_budget": 3}, 0.0, "epoch_budget"),
        ({"epoch_budget": 4}, 0.0, None),
        ({"time_budget": 30.0}, 0.0, "time_budget"),
        ({"time_budget": 30.5}, 0.0, None),
        ({"gpu_hours": 29 * 0.5 / 3600}, 0.5, "gpu_hours"),
        ({"gpu_hours": 30 * 0.5 / 3600}, 0.5, None),
        ({"gpu_hours": 29 * 4 / 3600}, 4.0, "gpu_hours"),
        ({"gpu_hours": 30 * 4 / 3600}, 4.0, None),
    ],
)
def test_a_budget_ends_the_search_once_it_is_used_up(fields: dict[str, Any], gpus: float, expected: str | None) -> None:
    assert reached(spec(**fields), metered(RUN), gpus) == expected
    assert expected is None or expected in NAMES
