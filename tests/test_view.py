"""The terminal's numbers and lines, with a clock that the test moves."""

import dataclasses
import io

import pytest
from rich.console import Console

from tuning.record import Records, TrialRecord
from tuning.spec import StudySpec
from tuning.view import View, describe, duration


def spec() -> StudySpec:
    return StudySpec(model="resnet20", name="x", trials=4, epochs=10)


def record(number: int, epochs: int, outcome: str = "running", score: float = 0.5, reason: str = "") -> TrialRecord:
    metrics = [
        {"epoch": e + 1, "val_accuracy": score, "train_loss": 1.0, "images_per_second": 100.0} for e in range(epochs)
    ]
    recipe = number == 0
    return TrialRecord(number, {"lr": 0.123456}, 0.0, outcome=outcome, reason=reason, epochs=metrics, recipe=recipe)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def view(terminal: bool) -> tuple[View, Clock, io.StringIO]:
    clock, screen = Clock(), io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100, color_system=None)
    return View(console, spec(), clock), clock, screen


def records(*all_records: TrialRecord) -> Records:
    return {r.number: r for r in all_records}


def test_the_remaining_time_extrapolates_pace_and_length() -> None:
    shown, clock, _ = view(terminal=False)
    clock.now = 5.0
    shown.enter("search")
    assert shown.remaining() is None, "no epoch yet"
    shown.records = records(record(0, 10, "completed"), record(1, 2, "stopped"), record(2, 3))
    clock.now = 5.0 + 30.0  # 15 epochs in 30 s; expected length 6; left: 2 x 6 - 3 = 9 epochs
    assert shown.remaining() == pytest.approx(18.0)


def test_a_resumed_study_does_not_count_old_epochs_as_pace() -> None:
    shown, clock, _ = view(terminal=False)
    shown.enter("search")
    shown({"event": "search", "epochs": 10, "seconds": 50.0}, records(record(0, 10, "completed")))
    clock.now = 10.0
    shown.records = records(record(0, 10, "completed"), record(1, 5))  # 5 epochs in 10 s
    assert shown.remaining() == pytest.approx(2.0 * (3 * 10 - 5))
    for fields, seconds in (({"epoch_budget": 27}, 2.0 * (27 - 15)), ({"time_budget": 80.0}, 80.0 - 50.0 - 10.0)):
        shown.spec = dataclasses.replace(spec(), **fields)
        assert shown.remaining() == pytest.approx(seconds)


def test_plain_lines_tell_each_end_once() -> None:
    shown, clock, screen = view(terminal=False)
    shown.enter("search")
    clock.now = 61.0
    seen = records(record(0, 3, "stopped", 0.25, "stopped at epoch 3: 0.250 below the cut-off 0.300, rank 4 of 4"))
    shown({"event": "end", "trial": 0}, seen)
    shown({"event": "report", "trial": 0}, seen)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "[     0 s] search"
    assert lines[1].startswith(
        "[1 min 01 s] 1/4  0 running, 1 stopped, 0 done; trial 0 (published recipe) stopped at epoch 3: 0.250 below"
    )
    assert len(lines) == 2


def test_what_is_waited_for_is_told_until_it_is_there() -> None:
    plain, _, screen = view(terminal=False)
    live, _, _ = view(terminal=True)
    for what in ("waiting for nodes: 3 trials", ""):
        plain({"event": "waiting", "what": what}, records())
        live({"event": "waiting", "what": what}, records())
        page = io.StringIO()
        Console(file=page, width=100).print(live.render())
        assert ("waiting for nodes: 3 trials" in page.getvalue()) == bool(what)
    assert screen.getvalue().splitlines() == ["[     0 s] waiting for nodes: 3 trials"]


def test_what_a_study_measures_is_shown_with_each_trial() -> None:
    for terminal in (False, True):
        shown, _, screen = view(terminal)
        shown.spec = StudySpec(model="resnet20", name="x", trials=4, epochs=10, constraints="latency_ms<5")
        shown.enter("search")
        seen = records(record(0, 10, "completed", 0.9), record(1, 10, "completed", 0.5), record(2, 1))
        for number, trial in seen.items():
            trial.epochs = [{**metrics, "latency_ms": 9.25 - 3 * number} for metrics in trial.epochs]
        shown({"event": "end", "trial": 1}, seen)
        shown.console.print(shown.render())
        assert "best so far 0.5000 in trial 2, latency_ms 3.25" in screen.getvalue(), "trials 0 and 1 take too long"
        assert ("trial 1 completed, its best 0.5000, latency_ms 6.25" in screen.getvalue()) == (not terminal)


def test_the_live_view_shows_counts_best_and_running_trials() -> None:
    shown, clock, screen = view(terminal=True)
    shown.enter("search")
    clock.now = 10.0
    shown.records = records(record(0, 10, "completed", 0.7), record(1, 2, "diverged", 0.1), record(2, 3, score=0.9))
    shown.console.print(shown.render())
    text = screen.getvalue()
    assert "2/4 trials, 10 s elapsed" in text
    assert "1 running, 0 stopped, 1 done, 1 diverged" in text
    assert "best so far 0.9000 in trial 2  (published recipe 0.7000)" in text
    assert "lr 0.123" in text
    assert "3/10" in text


def test_before_the_first_result_there_is_none() -> None:
    shown, _, screen = view(terminal=True)
    shown.console.print(shown.render())
    assert "no result yet" in screen.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_configuration_on_one_line() -> None:
    assert describe({"lr": 0.0123456, "batch_size": 32, "kind": "a"}) == "lr 0.0123, batch_size 32, kind a"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_trial_that_begins_again_is_told_with_the_reason(terminal: bool) -> None:
    shown, _, screen = view(terminal)
    shown({"event": "moved", "trial": 3, "reason": "its machine is gone"}, records(record(3, 2)))
    shown({"event": "again", "trial": 2, "reason": "RuntimeError: no"}, records(record(2, 2)))
    assert "trial 3 moves: its machine is gone\n" in screen.getvalue()
    assert "trial 2 is tried again: RuntimeError: no\n" in screen.getvalue()
