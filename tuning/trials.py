"""Runs the trials of a study that are left on Ray Tune, up to its time budget or a signal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from cluster.resources import Resources
from tuning.errors import Interrupted
from tuning.interrupt import Interrupt
from tuning.record import ENDED, StudyLog
from tuning.recorder import Recorder
from tuning.scheduler import RungScheduler
from tuning.spec import METRIC, StudySpec
from tuning.trial import trial_name


class Numbering(Protocol):
    """A Ray Tune searcher that knows our number of each trial that it handed out."""

    numbers: dict[str, int]


def run_trials(
    trainable: Callable[..., None],
    searcher: Numbering,
    scheduler: RungScheduler,
    *,
    spec: StudySpec,
    log: StudyLog,
    folder: Path,
    trial: Resources,
    concurrent: int,
    keep: int,
    interrupt: Interrupt,
) -> None:
    """Ends when `spec.trials` trials have ended; `keep` is how many of the best keep their checkpoints.

    Raises:
        Interrupted: a signal came.
    """
    left = spec.trials - sum(record.outcome in ENDED for record in log.records.values())
    if left == 0:
        return
    numbers = searcher.numbers  # Ray copies the naming function, which must not drag the searcher along

    def name(ray_trial: Any) -> str:
        return trial_name(numbers[ray_trial.trial_id])

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": trial.cpus, "gpu": trial.gpus}),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=left,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            time_budget_s=spec.time_budget,
            trial_name_creator=name,
            trial_dirname_creator=name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder / ".ray"),
            callbacks=[Recorder(log, scheduler, folder, epochs=spec.epochs, keep=keep, recipes=spec.recipes)],
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    interrupt.tuning = True
    try:
        tuner.fit()
    finally:
        interrupt.tuning = False
    for record in list(log.records.values()):
        if record.outcome not in ENDED:
            reason = "a signal" if interrupt.signum else "the time budget"
            log.emit("end", trial=record.number, outcome="interrupted", reason=f"ended by {reason}")
    if interrupt.signum:
        raise Interrupted(interrupt.signum)
