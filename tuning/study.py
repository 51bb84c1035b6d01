"""Runs one study: searcher, scheduler and trials on Ray Tune, then the finals, and what they leave behind."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from filelock import FileLock, Timeout
from ray import tune

from cluster.resources import Resources
from cluster.session import call_on_worker, session
from search_spaces import SearchSpace
from tuning import report, study_file
from tuning.errors import DamagedStudy, EveryTrialFailed, Interrupted, Locked
from tuning.finals import run_finals
from tuning.formats import candidates, fastest
from tuning.interrupt import Interrupt
from tuning.journal import DamagedJournal, Journal, read
from tuning.outcome import StudyResult, conclude
from tuning.prepare import Prepared, prepare, slots
from tuning.record import ENDED, Observer, StudyLog, TrialRecord, replay
from tuning.recorder import Recorder
from tuning.scheduler import RungScheduler, make_scheduler
from tuning.searcher import RungSearcher
from tuning.spec import METRIC, StudySpec
from tuning.tracking import Tracker
from tuning.training import Format
from tuning.trial import TrialSetup, run_trial, trial_name

KEPT_CHECKPOINTS = 3  # of the best trials, besides the baseline's


def run_study(spec: StudySpec, space: SearchSpace | None = None) -> StudyResult:
    """Runs a study from the beginning to its result.

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
    folder = prepared.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            return _Run(prepared, observers, phase, interrupt or Interrupt()).run()
    except Timeout:
        raise Locked(
            f"the study {prepared.spec.name!r} is being run by another process; wait for it or end it"
        ) from None
    except DamagedJournal as error:
        raise DamagedStudy(str(error)) from error


class _Run:
    """The steps of one run, with the clock that attributes its time to them."""

    def __init__(
        self, prepared: Prepared, observers: Sequence[Observer], phase: Callable[[str], None], interrupt: Interrupt
    ) -> None:
        self.prepared, self.spec, self.space, self.folder = prepared, prepared.spec, prepared.space, prepared.folder
        self.observers, self.phase, self.interrupt = observers, phase, interrupt
        self.seconds: dict[str, float] = {}
        self._since, self._phase = time.perf_counter(), ""

    def run(self) -> StudyResult:
        self._enter("start-up")
        path = self.folder / "journal.jsonl"
        records = replay(read(path)[0])
        journal = Journal(path)
        params = {**dataclasses.asdict(self.spec), **self.space.fixed}
        tracker = Tracker(self.spec, self.prepared.splits.name, params)
        try:
            result = self._run(tracker, StudyLog(journal, records, [tracker, *self.observers]))
        except BaseException as error:
            tracker.close("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
            raise
        finally:
            journal.close()
            shutil.rmtree(self.folder / ".ray", ignore_errors=True)
        return result

    def _run(self, tracker: Tracker, log: StudyLog) -> StudyResult:
        with session(self.spec.address) as cluster:
            self.interrupt.claim()
            count, trial = slots(self.spec, cluster)
            setup = self._setup(trial)
            tracker.ready()
            self._enter("search")
            self._search(setup, trial, count, log)
            if not any(record.epochs for record in log.records.values()):
                reasons = sorted({record.reason for record in log.records.values()})
                raise EveryTrialFailed(
                    f"no trial finished an epoch: {'; '.join(reasons)}; see {self.folder / 'log.txt'}"
                )
            self._enter("finals")
            verdict = run_finals(setup, log.records, trial)
            self._enter("export")
            result = conclude(setup, log, verdict)
            report.write(result, self.spec, self.prepared.splits)
        from tuning.mlflow_model import publish  # seconds of imports, that a study which fails earlier need not pay

        unsent = publish(tracker, result)
        self._enter("")
        return dataclasses.replace(result, seconds=self.seconds, experiment_id=tracker.experiment_id, unsent=unsent)

    def _setup(self, trial: Resources) -> TrialSetup:
        """Chooses the format on a worker, and writes down what is run."""
        setup = TrialSetup(
            spec=self.spec,
            fixed=dict(self.space.fixed),
            splits=self.prepared.splits,
            format=Format(),
            folder=self.folder,
            cpus=trial.cpus,
            device="cuda" if trial.gpus else "cpu",
        )
        known = study_file.read_format(self.folder)
        if known:  # a resumed study keeps its format
            return dataclasses.replace(setup, format=known)
        formats = candidates(self.spec.precision, self.spec.memory_format)
        speeds: Mapping[Format, float] = {}
        chosen = formats[0]
        if len(formats) > 1:
            self.phase("timing precisions and memory formats")
            chosen, speeds = call_on_worker(
                _time_formats, setup, dict(self.space.baseline), formats, address=self.spec.address, trial=trial
            )
        study_file.write(self.folder, self.spec, self.space, self.prepared.splits, chosen, speeds)
        return dataclasses.replace(setup, format=chosen)

    def _search(self, setup: TrialSetup, trial: Resources, concurrent: int, log: StudyLog) -> None:
        """Runs what is left of the trials, up to the time budget or a signal."""
        searcher = RungSearcher(
            self.space.distributions,
            metric=METRIC,
            mode="max",
            baseline=self.space.baseline,
            rungs=self.spec.rungs,
            seed=self.spec.seed,
            sampler=self.spec.sampler,
        )
        scheduler = make_scheduler(self.spec)
        for record in log.records.values():
            _replay_trial(record, searcher, scheduler)
        left = self.spec.trials - sum(record.outcome in ENDED for record in log.records.values())
        if left == 0:
            return
        numbers = searcher.numbers  # Ray copies the naming function, which must not drag the searcher along

        def name(ray_trial: Any) -> str:
            return trial_name(numbers[ray_trial.trial_id])

        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, setup=setup), {"cpu": trial.cpus, "gpu": trial.gpus}),
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=left,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
                time_budget_s=self.spec.time_budget,
                trial_name_creator=name,
                trial_dirname_creator=name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self.folder / ".ray"),
                callbacks=[
                    Recorder(
                        log, scheduler, self.folder, self.spec.epochs, max(KEPT_CHECKPOINTS, self.spec.finalists[0])
                    )
                ],
                failure_config=tune.FailureConfig(max_failures=1),
                verbose=0,
            ),
        )
        self.interrupt.tuning = True
        tuner.fit()
        self.interrupt.tuning = False
        for record in list(log.records.values()):
            if record.outcome not in ENDED:
                reason = "a signal" if self.interrupt.signum else "the time budget"
                log.emit("end", trial=record.number, outcome="interrupted", reason=f"ended by {reason}")
        if self.interrupt.signum:
            raise Interrupted(self.interrupt.signum)

    def _enter(self, name: str) -> None:
        now = time.perf_counter()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._since, self._phase = now, name
        if name:
            self.phase(name)


def _time_formats(
    setup: TrialSetup, baseline: dict[str, Any], formats: list[Format]
) -> tuple[Format, Mapping[Format, float]]:
    return fastest(lambda format: setup.training(baseline, setup.spec.seed, format=format), formats)


def _replay_trial(record: TrialRecord, searcher: RungSearcher, scheduler: RungScheduler) -> None:
    scores = {metrics["epoch"]: float(metrics[METRIC]) for metrics in record.epochs}
    if record.outcome == "diverged":
        scores[len(scores) + 1] = float("nan")
    for epoch, score in scores.items():
        scheduler.rungs.decide(record.number, epoch, score, exempt=True)
    searcher.replay(record.number, record.config, scores, finished=record.outcome in ENDED)
