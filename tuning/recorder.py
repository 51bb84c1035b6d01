"""Turns what Ray Tune does into events of the study's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from tuning.failures import IN_VAIN
from tuning.front import pareto_front, ranked
from tuning.record import ENDED, StudyLog
from tuning.scheduler import Decision, RungScheduler
from tuning.spec import StudySpec
from tuning.training import METRICS
from tuning.trial import state_of, trial_name, trial_number

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

LOST_IN_VAIN = f"it lost its machine {IN_VAIN} times without a new epoch"


class Recorder(Callback):
    """A Tune callback.

    `keep` is how many of the best trials keep their checkpoints, besides the published recipes, the best of each
    architecture and the front; `remove` is told of the files and folders of the study that are of no more use.
    """

    def __init__(
        self, log: StudyLog, scheduler: RungScheduler, remove: Callable[[str], None], spec: StudySpec, keep: int
    ) -> None:
        self.log, self.scheduler, self.remove, self.keep = log, scheduler, remove, keep
        self.epochs, self.goals, self.recipes = spec.epochs, spec.goals, spec.recipes
        self.metrics = (*METRICS, *self.goals.costs)
        self._kept = {number for number, record in log.records.items() if record.outcome in ENDED}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never ask for

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial_number(str(trial))
        self.log.emit("start", trial=number, config=trial.config, recipe=number in self.recipes)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        number = result["trial"]
        if result.get("diverged"):
            self._end(number, "diverged", f"the loss became infinite or NaN in epoch {result['epoch']}")
        elif result["epoch"] > len(self.log.records[number].epochs):  # else repeated by a resumed trial
            self.log.emit("report", trial=number, metrics={name: result[name] for name in self.metrics})
            decision = self.scheduler.decisions.pop(number, None)
            if decision and not decision.go_on:
                self._end(number, "stopped", decision.reason)
            elif result.get("broken"):
                self._end(number, "stopped", f"stopped at epoch {result['epoch']}: {result['broken']}")
            elif result["epoch"] == self.epochs:
                self._end(number, "completed", "")
            else:
                self._go_on(number, result, decision)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends a resumed trial whose earlier attempt had reported its last epoch, but was not ended any more."""
        number = trial_number(str(trial))
        if len(self.log.records[number].epochs) == self.epochs:
            self._end(number, "completed", "")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tells of another attempt, or that there will be none: Ray Tune itself gives no trial up."""
        judgement = self.scheduler.failures.judgements[trial.trial_id]
        if judgement.ended:
            said = _reason(trial)
            self._end(trial_number(str(trial)), "failed", LOST_IN_VAIN if judgement.moved else said)
        else:
            said = _reason(trial)  # by Ray, of a machine that is lost at length and mostly of something else
            reason = "its machine is gone or told to go" if judgement.moved else said
            self.log.emit(judgement.event, trial=trial_number(str(trial)), reason=reason)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial_number(str(trial)), "failed", _reason(trial))

    def _go_on(self, number: int, result: dict[str, Any], decision: Decision | None) -> None:
        if decision:
            audited = {"audited": True} if decision.audited else {}
            self.log.emit("go_on", trial=number, reason=decision.reason, **audited)
        if result["saved"]:
            self.log.emit("checkpoint", trial=number, epoch=result["epoch"])

    def _end(self, number: int, outcome: str, reason: str) -> None:
        if self.log.records[number].outcome in ENDED:
            return
        self.log.emit("end", trial=number, outcome=outcome, reason=reason)
        self.remove(state_of(number))
        self._kept.add(number)
        for worthless in self._kept - self._worth_keeping():
            self._kept.remove(worthless)
            self.remove(f"trials/{trial_name(worthless)}")

    def _worth_keeping(self) -> set[int]:
        """Trials that something may be asked of again; what is not among the best now will never be."""
        kept = {number: self.log.records[number] for number in self._kept}
        order = [record for record in ranked(kept, self.goals) if not record.recipe]
        leaders = {record.model: record.number for record in reversed(order)}
        worth = {*self.recipes, *leaders.values(), *(record.number for record in order[: self.keep])}
        if self.goals.several:
            worth |= {record.number for record in pareto_front(kept, self.goals)}
        return worth


def _reason(trial: Trial) -> str:
    """The last line of what the worker said; all of it goes to the study's log file."""
    traceback = Path(trial.error_file).read_text().strip()
    print(traceback)
    return traceback.splitlines()[-1].strip()
