"""What a study found: the result that `run_study` gives, and the files, report and MLflow entries that keep it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Splits
from tuning.audit import Audit, audit
from tuning.checkpoint import write_json
from tuning.errors import DamagedStudy
from tuning.export import DESCRIPTION, WEIGHTS, write_best
from tuning.finals import Finalist, Verdict, description, margin
from tuning.front import FRONT_FILE, FrontTrial
from tuning.journal import Event
from tuning.leaderboard import LEADERBOARD_FILE, ArchitectureResult
from tuning.prepare import Prepared
from tuning.record import Records, StudyLog, TrialRecord
from tuning.spec import MODEL, StudySpec
from tuning.study_file import git_commit, versions
from tuning.trial import TrialSetup, best_of


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found. Accuracies are shares in [0, 1]; the test set was read once."""

    name: str
    model: str  # of the winner
    dataset: str
    folder: Path
    config: dict[str, Any]  # of the winner, fixed values included
    trial: int  # the winner's number
    val_accuracy: float
    test_accuracy: float
    baseline_val_accuracy: float | None  # None: the published recipe diverged
    baseline_test_accuracy: float | None
    score: str  # what all these are: accuracy, or for images of several labels the mean average precision
    verdict: str
    checkpoint: Path
    trials: int
    stopped: int
    diverged: int
    failed: int
    records: Records = field(repr=False)
    audit: Audit | None = None  # None: no trial could be stopped early
    front: tuple[FrontTrial, ...] = ()  # of several objectives, by validation accuracy
    architectures: tuple[ArchitectureResult, ...] = ()  # where there are several, the winner's first
    seconds: Mapping[str, float] = field(default_factory=dict)  # wall time by phase
    experiment_id: str = ""  # MLflow's
    unsent: int = 0  # runs that MLflow does not know all of


def conclude(study: TrialSetup, log: StudyLog, verdicts: Mapping[str, Verdict]) -> StudyResult:
    """Writes the winner's files and its place in the journal; the winner's verdict is the first."""
    verdict = next(iter(verdicts.values()))
    winner, setup = verdict.winner, study.of(verdict.winner.config)
    weights, meta = setup.storage.load(winner.checkpoint)
    config, scores = _config(setup, winner.config), _scores(verdict)
    details = {
        **description(setup, meta),
        "study": study.spec.name,
        "trial": winner.number,
        "config": config,
        "scores": scores,
        "checkpoint_metrics": meta["metrics"],
        "verdict": str(verdict),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    write_best(setup.storage.folder, weights, details)
    front = _conclude_front(setup, log, verdict)
    architectures = _architectures(study, log, verdicts) if study.by_model else ()
    if architectures:
        write_json(setup.storage.folder / LEADERBOARD_FILE, [dataclasses.asdict(each) for each in architectures])
    log.emit("result", winner=winner.number, verdict=str(verdict), **scores)
    result = _result(study.spec, setup.splits, setup.storage.folder, details, log.records)
    return dataclasses.replace(result, front=front, architectures=architectures)


def known_result(prepared: Prepared, records: Records, done: Event) -> StudyResult:
    """The result of a study that an earlier run finished, `done` being the last event of its journal.

    Raises:
        DamagedStudy: its files are not what that run wrote.
    """
    path = prepared.folder / DESCRIPTION
    try:
        result = _result(prepared.spec, prepared.splits, prepared.folder, json.loads(path.read_text()), records)
        path = prepared.folder / FRONT_FILE
        front = json.loads(path.read_text()) if prepared.spec.goals.several else []
        path = prepared.folder / LEADERBOARD_FILE
        architectures = json.loads(path.read_text()) if prepared.architectures else []
    except (OSError, KeyError, ValueError) as error:
        raise DamagedStudy(f"{path} cannot be read ({error}); restore it from a copy") from error
    return dataclasses.replace(
        result,
        front=tuple(FrontTrial(**member) for member in front),
        architectures=tuple(ArchitectureResult(**each) for each in architectures),
        seconds=done["seconds"],
        experiment_id=done["experiment_id"],
        unsent=done["unsent"],
    )


def _result(spec: StudySpec, splits: Splits, folder: Path, details: Mapping[str, Any], records: Records) -> StudyResult:
    outcomes = [record.outcome for record in records.values()]
    return StudyResult(
        name=spec.name,
        model=details["model"],
        dataset=splits.name,
        score=splits.score,
        folder=folder,
        config=details["config"],
        trial=details["trial"],
        verdict=details["verdict"],
        checkpoint=folder / WEIGHTS,
        trials=len(outcomes),
        stopped=outcomes.count("stopped"),
        diverged=outcomes.count("diverged"),
        failed=outcomes.count("failed"),
        records=records,
        audit=_audit(spec, records),
        **details["scores"],
    )


def _audit(spec: StudySpec, records: Records) -> Audit | None:
    return audit(records, spec.rungs, spec.reduction_factor) if spec.stops_early else None


def _conclude_front(setup: TrialSetup, log: StudyLog, verdict: Verdict) -> tuple[FrontTrial, ...]:
    """Writes the front's file and its members' places in the journal; empty with one objective."""
    if not setup.spec.goals.several:
        return ()
    for number, record in log.records.items():
        if number in verdict.front:
            log.emit("test", trial=number, accuracy=verdict.front[number])
        if record.pareto != (number in verdict.front):  # an extended study may have found better ones
            log.emit("front", trial=number, pareto=number in verdict.front)
    members = [log.records[number] for number in verdict.front]
    front = tuple(
        FrontTrial(
            trial=record.number,
            values={name: (record.best or {})[name] for name in setup.spec.goals.names},
            test_accuracy=record.test_accuracy,
            config=_config(setup, record.config),
            checkpoint=best_of(record.number),
        )
        for record in members
    )
    write_json(setup.storage.folder / FRONT_FILE, [dataclasses.asdict(member) for member in front])
    return front


def _architectures(study: TrialSetup, log: StudyLog, verdicts: Mapping[str, Verdict]) -> tuple[ArchitectureResult, ...]:
    """All of them, the best by validation accuracy first; tells the test scores to the log."""
    for verdict in verdicts.values():
        for number, accuracy in {f.number: f.test_accuracy for f in (verdict.winner, verdict.baseline) if f}.items():
            log.emit("test", trial=number, accuracy=accuracy)
    first, records = next(iter(verdicts.values())).winner, log.records.values()
    return tuple(
        _architecture(study.by_model[model], [r for r in records if r.model == model], verdicts.get(model), first)
        for model in dict.fromkeys([*verdicts, *study.by_model])
    )


def _architecture(
    setup: TrialSetup, records: Sequence[TrialRecord], verdict: Verdict | None, first: Finalist
) -> ArchitectureResult:
    """One architecture against the first."""
    result = ArchitectureResult(
        model=setup.spec.model,
        image_size=setup.splits.image_size,
        trials=len(records),
        epochs=sum(len(record.epochs) for record in records),
    )
    if verdict is None:
        return result
    winner = verdict.winner
    if winner.number != first.number:
        gain = winner.test_accuracy - first.test_accuracy
        result = dataclasses.replace(result, gain=gain, margin=margin(winner, first))
    config, scores = _config(setup, winner.config), _scores(verdict)
    return dataclasses.replace(result, trial=winner.number, config=config, verdict=str(verdict), **scores)


def _config(setup: TrialSetup, config: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters, those that are not searched included."""
    whole = {**config, **{name: value for name, value in setup.fixed.items() if name not in config}}
    return {name: value for name, value in whole.items() if name != MODEL}


def _scores(verdict: Verdict) -> dict[str, Any]:
    winner, baseline = verdict.winner, verdict.baseline
    return {
        "val_accuracy": winner.val_accuracy,
        "test_accuracy": winner.test_accuracy,
        "baseline_val_accuracy": baseline.val_accuracy if baseline else None,
        "baseline_test_accuracy": baseline.test_accuracy if baseline else None,
    }
