"""Runs one study: searcher, scheduler and trials on Ray Tune, then the finals, and what they leave behind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune

from cluster.resources import Cluster, Resources, concurrency
from cluster.session import call_on_worker, session
from search_spaces import SearchSpace
from tuning import leaderboard_report, report, study_file
from tuning.changes import Spaces
from tuning.classifier import Format
from tuning.finals import run_finals
from tuning.formats import candidates, fastest
from tuning.gpu_share import share_gpu
from tuning.interrupt import Interrupt
from tuning.optuna_study import OptunaStudy, distributions
from tuning.outcome import StudyResult, conclude, known_result
from tuning.portfolio import PortfolioSearcher
from tuning.prepare import Prepared, batch_range, prepare, slots
from tuning.record import ENDED, Observer, StudyLog, TrialRecord
from tuning.recording import Phases, check_any_trained, finished, keep_changes, recording
from tuning.scheduler import RungScheduler, make_scheduler
from tuning.searcher import RungSearcher
from tuning.spec import AUTO, METRIC, StudySpec
from tuning.trial import TrialSetup, run_trial
from tuning.trials import run_trials

KEPT_CHECKPOINTS = 3  # of the best trials, besides the baseline's


def run_study(spec: StudySpec, space: SearchSpace | Spaces | None = None) -> StudyResult:
    """Runs a study from the beginning to its result; `space` is as for `prepare`.

    Raises:
        ValueError: the request makes no sense.
        ConnectionError: the cluster, MLflow or the data's source does not answer.
        StudyError: see `tuning.errors`.
    """
    return run(prepare(spec, space))


def run(
    prepared: Prepared,
    *,
    observers: Sequence[Observer] = (),
    phase: Callable[[str], None] = lambda name: None,
    interrupt: Interrupt | None = None,
) -> StudyResult:
    """Runs a prepared study; `phase` is told what happens next, `interrupt` is asked whether a signal came."""
    spec, storage = prepared.spec, prepared.storage
    if done := finished(prepared):
        return known_result(prepared, *done)
    interrupt, phases = interrupt or Interrupt(), Phases(phase)
    phases.enter("start-up")
    params = {**dataclasses.asdict(spec), **prepared.fixed()}
    observers = [OptunaStudy(storage.folder, spec.name, distributions(prepared), spec.goals), *observers]
    with recording(storage, spec, prepared.splits.name, params, observers) as (tracker, log, remove):
        keep_changes(prepared, log)
        with session(spec.address) as cluster:
            interrupt.claim()
            count, trial = slots(spec, cluster)
            setup = make_setup(prepared, trial, phase)
            if spec.gpus_per_trial == AUTO and trial.gpus:
                phase("probing how many trials share a GPU")
                trial = _shared(prepared, setup, cluster, log)
                count, setup = concurrency(cluster, trial, spec.trials, spec.max_share), setup.limited(trial)
            tracker.ready()
            phases.enter("search")
            searcher, scheduler = _replayed(prepared, log)
            run_trials(
                tune.with_parameters(run_trial, setup=setup), searcher, scheduler, spec=spec, log=log, storage=storage,
                remove=remove, cluster=cluster, trial=trial, concurrent=count,
                keep=max(KEPT_CHECKPOINTS, spec.finalists[0]), interrupt=interrupt,
            )  # fmt: skip
            check_any_trained(log, storage.folder)
            phases.enter("finals")
            verdicts = run_finals(setup, log.records, trial, count)
            phases.enter("export")
            result = conclude(setup, log, verdicts)
            report.write(result, spec, prepared.splits, leaderboard_report.sections(result))
        from tuning.mlflow_model import publish  # seconds of imports, that a study which fails earlier need not pay

        unsent = publish(tracker, result)
        phases.enter("")
        log.emit("done", seconds=phases.seconds, experiment_id=tracker.experiment_id, unsent=unsent)
    return dataclasses.replace(result, seconds=phases.seconds, experiment_id=tracker.experiment_id, unsent=unsent)


def make_setup(prepared: Prepared, trial: Resources, phase: Callable[[str], None]) -> TrialSetup:
    """Chooses the format of each architecture on a worker, and writes down what is run."""
    parts = prepared.architectures or {prepared.spec.model: next(iter(prepared.levels.values()), prepared)}
    known, timed, setups = study_file.read_formats(prepared.folder), {}, {}
    for model, part in parts.items():
        setup = TrialSetup(
            spec=part.spec,
            fixed=dict(part.space.fixed),
            splits=part.splits,
            format=Format(),
            storage=prepared.storage,
            cpus=trial.cpus,
            device="cuda" if trial.gpus else "cpu",
            gpus=trial.gpus,
        )
        if not known:  # a resumed study keeps its formats
            timed[model] = _timed(setup, part, trial, phase)
        setups[model] = dataclasses.replace(setup, format=known[model] if known else timed[model][0])
    if not known:
        study_file.write(prepared, timed)
    first = next(iter(setups.values()))
    return dataclasses.replace(first, spec=prepared.spec, by_model=setups) if prepared.architectures else first


def _shared(prepared: Prepared, setup: TrialSetup, cluster: Cluster, log: StudyLog) -> Resources:
    """What each trial gets where several share a GPU: as many as do well of the most demanding architecture."""
    node = next(node for node in (*cluster.nodes, *(kind.resources for kind in cluster.types)) if node.gpus)
    found = []
    for model, part in (prepared.architectures or {prepared.spec.model: prepared}).items():
        baseline = {**part.space.active(part.space.baseline), "batch_size": batch_range(part.space)[1]}
        own = setup.by_model[model] if setup.by_model else setup
        trial, probes = share_gpu(own, baseline, node, prepared.spec.cpus_per_trial)
        log.emit(
            "gpu_share", model=model, gpus=trial.gpus, cpus=trial.cpus, probes=list(map(dataclasses.asdict, probes))
        )
        found.append(trial)
    return max(found, key=lambda trial: trial.gpus)


def _timed(setup: TrialSetup, part: Prepared, trial: Resources, phase: Callable[[str], None]) -> study_file.Timed:
    """The format to train in, and how fast each is where that is not said."""
    spec, space = part.spec, part.space
    if "auto" not in (spec.precision, spec.memory_format):
        return Format(precision=spec.precision, memory_format=spec.memory_format), {}
    phase("timing precisions and memory formats")
    baseline = space.active(space.baseline)
    return call_on_worker(_choose_format, setup, baseline, address=spec.address, trial=trial)


def _replayed(prepared: Prepared, log: StudyLog) -> tuple[RungSearcher | PortfolioSearcher, RungScheduler]:
    """Searcher and scheduler that know what an earlier run of the study saw."""
    spec = prepared.spec
    searcher: RungSearcher | PortfolioSearcher
    if prepared.architectures:
        own = {model: _searcher(part) for model, part in prepared.architectures.items()}
        searcher = PortfolioSearcher(
            own, metric=METRIC, mode="max", rungs=spec.rungs, reduction_factor=spec.reduction_factor
        )
    else:
        searcher = _searcher(prepared)
    scheduler = make_scheduler(spec, val_images=len(prepared.splits.val))
    for record in list(log.records.values()):
        config = record.config if prepared.architectures else prepared.space.fitting(record.config)
        if config is None and record.outcome == "running":
            log.emit("end", trial=record.number, outcome="interrupted", reason="it is not of the changed search space")
        _replay_trial(record, config, searcher, scheduler)
    return searcher, scheduler


def _searcher(prepared: Prepared) -> RungSearcher:
    """The searcher of one architecture."""
    spec, space = prepared.spec, prepared.space
    return RungSearcher(
        space.distributions,
        metric=METRIC,
        mode="max",
        baseline=space.active(space.baseline),
        conditions=space.conditions,
        rungs=spec.rungs,
        seed=spec.seed,
        sampler=spec.sampler,
        first=prepared.warm.first if prepared.warm else (),
        prior=prepared.warm.prior if prepared.warm else (),
        goals=spec.goals,
    )


def _choose_format(setup: TrialSetup, baseline: dict[str, Any]) -> tuple[Format, Mapping[Format, float]]:
    formats = candidates(setup.spec.precision, setup.spec.memory_format, setup.device)
    if len(formats) == 1:
        return formats[0], {}
    return fastest(lambda format: setup.training(baseline, setup.spec.seed, format=format), formats)


def _replay_trial(
    record: TrialRecord,
    config: dict[str, Any] | None,
    searcher: RungSearcher | PortfolioSearcher,
    scheduler: RungScheduler,
) -> None:
    """Tells what is known of a trial; `config` is the part of it that is searched, None if it is of another space."""
    reports: dict[int, dict[str, Any]] = {metrics["epoch"]: metrics for metrics in record.epochs}
    if record.outcome == "diverged":
        reports[len(reports) + 1] = {METRIC: math.nan}
    for epoch, metrics in reports.items():
        scheduler.replay(record.number, epoch, scheduler.score(metrics), group=record.model)
    if record.audited_at is not None:
        scheduler.audited.add(record.number)
    if config is None:  # its number is taken, nothing is to be learnt from it
        searcher.replay(record.number, {}, {}, finished=True)
    else:
        searcher.replay(record.number, config, reports, finished=record.outcome in ENDED)
