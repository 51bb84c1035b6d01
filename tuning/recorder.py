"""Turns what Ray Tune does into events of the study's log."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from tuning.record import ENDED, StudyLog
from tuning.scheduler import RungScheduler
from tuning.training import EpochMetrics
from tuning.trial import trial_name, trial_number

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

METRICS = [field.name for field in dataclasses.fields(EpochMetrics)]


class Recorder(Callback):
    """A Tune callback.

    `keep` is how many of the best trials keep their checkpoints, besides the published recipes, `recipes`, and the best
    of each architecture.
    """

    def __init__(
        self,
        log: StudyLog,
        scheduler: RungScheduler,
        folder: Path,
        *,
        epochs: int,
        keep: int,
        recipes: Collection[int],
    ) -> None:
        self.log, self.scheduler, self.folder = log, scheduler, folder
        self.epochs, self.keep, self.recipes = epochs, keep, recipes

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
            self.log.emit("report", trial=number, metrics={name: result[name] for name in METRICS})
            decision = self.scheduler.decisions.pop(number, None)
            if decision and not decision.go_on:
                self._end(number, "stopped", decision.reason)
            elif decision:
                self.log.emit("go_on", trial=number, reason=decision.reason)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial_number(str(trial))
        if len(self.log.records[number].epochs) == self.epochs:
            self._end(number, "completed", "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        traceback = Path(trial.error_file).read_text().strip()  # of the worker; its last line says what went wrong
        print(traceback)  # goes to the study's log file
        self._end(trial_number(str(trial)), "failed", traceback.splitlines()[-1])

    def _end(self, number: int, outcome: str, reason: str) -> None:
        if self.log.records[number].outcome in ENDED:
            return
        self.log.emit("end", trial=number, outcome=outcome, reason=reason)
        (self._folder(number) / "state.safetensors").unlink(missing_ok=True)
        ended = [record for record in self.log.records.values() if record.outcome in ENDED and not record.recipe]
        ended.sort(key=lambda record: (-record.score, record.number))
        best = {record.model: record.number for record in reversed(ended)}
        for record in ended[self.keep :]:
            if record.number != best[record.model]:
                shutil.rmtree(self._folder(record.number), ignore_errors=True)

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / trial_name(number)
