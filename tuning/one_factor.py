"""Runs a one-factor study: each level with each seed to the full length, then all of them on the test set, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray import tune

from cluster.resources import Resources
from cluster.session import session
from tuning import one_factor_report
from tuning.checkpoint import write_json
from tuning.finals import measure, wait_for_place
from tuning.grid import GridSearcher
from tuning.interrupt import Interrupt
from tuning.levels import OneFactorResult, collect
from tuning.prepare import Prepared, slots
from tuning.record import ENDED, Observer, StudyLog
from tuning.recording import Phases, check_any_trained, finished, keep_changes, recording
from tuning.report import REPORT
from tuning.scheduler import make_scheduler
from tuning.spec import METRIC
from tuning.study import make_setup
from tuning.trial import TrialSetup, best_of, run_level
from tuning.trials import run_trials

LEVELS_FILE = "levels.json"


def run(
    prepared: Prepared,
    *,
    observers: Sequence[Observer] = (),
    phase: Callable[[str], None] = lambda name: None,
    interrupt: Interrupt | None = None,
) -> OneFactorResult:
    """Runs a prepared one-factor study, or what is left of it; the arguments are those of `study.run`."""
    spec, storage = prepared.spec, prepared.storage
    if done := finished(prepared):
        records, last = done
        return dataclasses.replace(
            collect(prepared, records),
            seconds=last["seconds"], experiment_id=last["experiment_id"], unsent=last["unsent"],
        )  # fmt: skip
    interrupt, phases = interrupt or Interrupt(), Phases(phase)
    phases.enter("start-up")
    params = {**dataclasses.asdict(spec), **prepared.space.fixed}
    with recording(storage, spec, prepared.splits.name, params, observers) as (tracker, log, remove):
        keep_changes(prepared, log)
        with session(spec.address) as cluster:
            interrupt.claim()
            count, trial = slots(spec, cluster)
            setups = _setups(prepared, make_setup(prepared, trial, phase))
            tracker.ready()
            phases.enter("search")
            ended = {record.number for record in log.records.values() if record.outcome in ENDED}
            left = {number: config for number, config in configs(prepared).items() if number not in ended}
            run_trials(
                tune.with_parameters(run_level, setups=setups), GridSearcher(left, metric=METRIC, mode="max"),
                make_scheduler(spec), spec=spec, log=log, storage=storage, remove=remove, cluster=cluster, trial=trial,
                concurrent=count, keep=spec.trials, interrupt=interrupt,
            )  # fmt: skip
            check_any_trained(log, storage.folder)
            phases.enter("test")
            _test(setups, log, trial, count)
        phases.enter("export")
        result = collect(prepared, log.records)
        one_factor_report.write(result, prepared)
        write_json(storage.folder / LEVELS_FILE, [dataclasses.asdict(level) for level in result.levels])
        files = (storage.folder / REPORT, storage.folder / LEVELS_FILE)
        unsent = tracker.close("FINISHED", one_factor_report.markdown(result), files)
        phases.enter("")
        log.emit("done", seconds=phases.seconds, experiment_id=tracker.experiment_id, unsent=unsent)
    return dataclasses.replace(result, seconds=phases.seconds, experiment_id=tracker.experiment_id, unsent=unsent)


def configs(prepared: Prepared) -> dict[int, dict[str, Any]]:
    """What each trial trains: all levels with one seed before any with the next, so that a study cut short is fair."""
    replicates = range(prepared.spec.seeds or 1)
    pairs = [(replicate, level) for replicate in replicates for level in prepared.levels]
    return {
        number: {"level": level, "replicate": replicate, "model": prepared.levels[level].spec.model,
                 **prepared.levels[level].space.fixed}
        for number, (replicate, level) in enumerate(pairs)
    }  # fmt: skip


def _setups(prepared: Prepared, setup: TrialSetup) -> dict[str, TrialSetup]:
    """One a level, alike in all that is not the level's."""
    return {
        name: dataclasses.replace(setup, spec=level.spec, fixed=dict(level.space.fixed), splits=level.splits)
        for name, level in prepared.levels.items()
    }


def _test(setups: Mapping[str, TrialSetup], log: StudyLog, trial: Resources, concurrent: int) -> None:
    """Reads the test set for every trained replicate that has not been measured yet, so many at once."""
    task = ray.remote(measure).options(num_cpus=trial.cpus, num_gpus=trial.gpus)
    shared = {level: ray.put(setup) for level, setup in setups.items()}
    pending: dict[int, Any] = {}
    for number, record in log.records.items():
        if record.complete and record.test_accuracy is None:
            wait_for_place(list(pending.values()), concurrent)
            level = record.config["level"]
            pending[number] = task.remote(shared[level], [best_of(number)])
    for number, answer in pending.items():
        ((accuracy, _),) = ray.get(answer)
        log.emit("test", trial=number, accuracy=accuracy)
