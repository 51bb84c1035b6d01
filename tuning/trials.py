"""Runs the trials of a study that are left on Ray Tune, up to a budget or a signal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from ray import tune
from ray.tune import Stopper

from cluster.resources import Cluster, Resources
from tuning import budget
from tuning.errors import Interrupted
from tuning.interrupt import Interrupt
from tuning.record import ENDED, StudyLog
from tuning.recorder import Recorder
from tuning.scheduler import RungScheduler
from tuning.spec import METRIC, StudySpec
from tuning.storage import Storage
from tuning.trial import trial_name
from tuning.waiting import Waiting


class Numbering(Protocol):
    """A Ray Tune searcher that knows our number of each trial that it handed out."""

    numbers: dict[str, int]


class BudgetStopper(Stopper):
    """Ends Ray Tune's run when a budget of the study is used up; `reached` is its field then."""

    def __init__(self, spec: StudySpec, log: StudyLog, gpus: float) -> None:
        self.spec, self.log, self.gpus = spec, log, gpus
        self.reached: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that we never ask for

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self.log.meter.advance(time.time())
        self.reached = budget.reached(self.spec, self.log.meter, self.gpus)
        return self.reached is not None


def run_trials(
    trainable: Callable[..., None],
    searcher: Numbering,
    scheduler: RungScheduler,
    *,
    spec: StudySpec,
    log: StudyLog,
    storage: Storage,
    remove: Callable[[str], None],
    cluster: Cluster,
    trial: Resources,
    concurrent: int,
    keep: int,
    interrupt: Interrupt,
) -> None:
    """Ends when `spec.trials` trials have ended or a budget is used up; `keep` of the best keep their checkpoints.

    Raises:
        Interrupted: a signal came.
    """
    left = spec.trials - sum(record.outcome in ENDED for record in log.records.values())
    before = budget.reached(spec, log.meter, trial.gpus)
    if left <= 0 or before:
        _interrupt_running(log, budget.NAMES[before] if before else "a smaller number of trials")
        return
    stopper = BudgetStopper(spec, log, trial.gpus)
    callbacks = [Recorder(log, scheduler, remove, spec, keep), Waiting(log, trial, cluster)]
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": trial.cpus, "gpu": trial.gpus}),
        tune_config=_tune_config(searcher, scheduler, left, concurrent),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage.folder / ".ray"),
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=-1),  # the scheduler ends those that fail by themselves
            stop=stopper,
            verbose=0,
        ),
    )
    log.emit("search", seconds=round(log.meter.seconds, 3), epochs=log.meter.epochs)  # what earlier runs have used
    interrupt.tuning = True
    try:
        tuner.fit()
    finally:
        interrupt.tuning = False
    if stopper.reached:
        log.emit("budget", name=stopper.reached, limit=getattr(spec, stopper.reached))
    _interrupt_running(log, "a signal" if interrupt.signum else budget.NAMES.get(stopper.reached or "", "Ray Tune"))
    if interrupt.signum:
        raise Interrupted(interrupt.signum)


def _tune_config(searcher: Numbering, scheduler: RungScheduler, trials: int, concurrent: int) -> tune.TuneConfig:
    numbers = searcher.numbers  # Ray copies the naming function, which must not drag the searcher along

    def name(ray_trial: Any) -> str:
        return trial_name(numbers[ray_trial.trial_id])

    return tune.TuneConfig(
        metric=METRIC,
        mode="max",
        search_alg=searcher,
        scheduler=scheduler,
        num_samples=trials,
        max_concurrent_trials=concurrent,
        reuse_actors=True,
        trial_name_creator=name,
        trial_dirname_creator=name,
    )


def _interrupt_running(log: StudyLog, why: str) -> None:
    for record in list(log.records.values()):
        if record.outcome == "running":
            log.emit("end", trial=record.number, outcome="interrupted", reason=f"ended by {why}")
