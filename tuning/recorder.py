"""Turns what Ray Tune does into events of the study's log."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from tuning.record import ENDED, StudyLog
from tuning.scheduler import Decision, RungScheduler
from tuning.spec import BASELINE
from tuning.training import EpochMetrics
from tuning.trial import trial_name, trial_number

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

METRICS = [field.name for field in dataclasses.fields(EpochMetrics)]


class Recorder(Callback):
    """A Tune callback; `keep` is how many of the best trials keep their checkpoints besides the baseline."""

    def __init__(self, log: StudyLog, scheduler: RungScheduler, folder: Path, epochs: int, keep: int) -> None:
        self.log, self.scheduler, self.folder, self.epochs, self.keep = log, scheduler, folder, epochs, keep

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never ask for

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.log.emit("start", trial=trial_number(str(trial)), config=trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        number = result["trial"]
        if result.get("diverged"):
            self._end(number, "diverged", f"the loss became infinite or NaN in epoch {result['epoch']}")
        elif result["epoch"] > len(self.log.records[number].epochs):  # else repeated by a resumed trial
            self.log.emit("report", trial=number, metrics={name: result[name] for name in METRICS})
            decision = self.scheduler.decisions.pop(number, None)
            if decision and not decision.go_on:
                self._end(number, "stopped", decision.reason)
            elif result["epoch"] == self.epochs:
                self._end(number, "completed", "")
            else:
                self._go_on(number, result, decision)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends a resumed trial whose earlier attempt had reported its last epoch, but was not ended any more."""
        number = trial_number(str(trial))
        if len(self.log.records[number].epochs) == self.epochs:
            self._end(number, "completed", "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        traceback = Path(trial.error_file).read_text().strip()  # of the worker; its last line says what went wrong
        print(traceback)  # goes to the study's log file
        self._end(trial_number(str(trial)), "failed", traceback.splitlines()[-1])

    def _go_on(self, number: int, result: dict[str, Any], decision: Decision | None) -> None:
        if decision:
            self.log.emit("go_on", trial=number, reason=decision.reason)
        if result["saved"]:
            self.log.emit("checkpoint", trial=number, epoch=result["epoch"])

    def _end(self, number: int, outcome: str, reason: str) -> None:
        if self.log.records[number].outcome in ENDED:
            return
        self.log.emit("end", trial=number, outcome=outcome, reason=reason)
        (self._folder(number) / "state.safetensors").unlink(missing_ok=True)
        ended = [
            record for record in self.log.records.values() if record.outcome in ENDED and record.number != BASELINE
        ]
        ended.sort(key=lambda record: (-record.score, record.number))
        for record in ended[self.keep :]:
            shutil.rmtree(self._folder(record.number), ignore_errors=True)

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / trial_name(number)
