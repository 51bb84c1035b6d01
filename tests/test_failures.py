"""A trial that loses its machine goes on elsewhere, however often; one that fails by itself twice has failed."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.failing_trials import PLANS
from tuning.failures import IN_VAIN, Failure, in_vain, judge
from tuning.journal import read

RAISED, HERE, GONE = Failure(), Failure(node="here"), Failure(node="gone")
CUT_OFF = Failure(node="here", cut_off=True)
STAYING = {"here", "other"}
LOST = st.lists(st.sampled_from([GONE, CUT_OFF]), max_size=4)


@given(LOST, st.sampled_from([RAISED, HERE]), LOST)
def test_no_loss_of_a_machine_counts(before: list[Failure], own: Failure, after: list[Failure]) -> None:
    judgements = [judge((*before, own, *after)[: count + 1], STAYING) for count in range(len(before) + 1 + len(after))]
    assert not any(judgement.ended for judgement in judgements)
    assert [judgement.event for judgement in judgements] == ["moved"] * len(before) + ["again"] + ["moved"] * len(after)


@given(LOST, LOST, st.sampled_from([RAISED, HERE]), st.sampled_from([RAISED, HERE]))
def test_the_second_failure_of_its_own_ends_a_trial(
    first: list[Failure], then: list[Failure], one: Failure, other: Failure
) -> None:
    assert judge([*first, one, *then, other], STAYING).ended


def test_a_trial_that_never_gets_further_is_given_up_and_one_that_does_is_not() -> None:
    assert not judge([GONE] * (IN_VAIN - 1), STAYING).ended
    assert judge([GONE] * IN_VAIN, STAYING).ended
    assert not judge([Failure(node="gone", epoch=count // 5) for count in range(100)], STAYING).ended


@given(st.lists(st.integers(0, 5), min_size=1))
def test_attempts_in_vain_are_those_since_the_furthest_was_first_reached(epochs: list[int]) -> None:
    assert in_vain([Failure(epoch=epoch) for epoch in epochs]) == len(epochs) - epochs.index(max(epochs))


def test_a_worker_that_died_before_its_machine_did_is_forgiven() -> None:
    assert judge([HERE, HERE], STAYING).ended
    assert not judge([HERE, RAISED], {"other"}).ended


@pytest.mark.long
@pytest.mark.timeout(300)
def test_trials_on_machines_that_go_and_on_machines_that_stay(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.failing_trials", str(tmp_path)], stdout=log, stderr=log, timeout=280
        )
    events = read(tmp_path / "journal.jsonl")[0]
    shown = {
        number: [event.get("outcome", event["event"]) for event in events if event.get("trial") == number]
        for number in PLANS
    }
    assert {number: [event for event in own if event != "start"] for number, own in shown.items()} == {
        0: ["moved", "moved", "moved", "report", "completed"],
        1: ["again", "failed"],
        2: ["again", "moved", "moved", "report", "completed"],
        3: ["again", "failed"],
    }
    reasons = {event["trial"]: event["reason"] for event in events if event.get("outcome") == "failed"}
    assert {event["reason"] for event in events if event["event"] == "moved"} == {"its machine is gone or told to go"}
    assert "its worker process has died" in reasons[1]
    assert reasons[3] == "RuntimeError: attempt 1"
