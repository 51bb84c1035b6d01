"""What a study found: the result that `run_study` gives, and the files, report and MLflow entries that keep it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuning import checkpoint
from tuning.audit import Audit, audit
from tuning.export import WEIGHTS, write_best
from tuning.finals import Verdict, description
from tuning.front import FRONT_FILE, FrontTrial
from tuning.record import Records, StudyLog
from tuning.spec import StudySpec
from tuning.study_file import git_commit, versions
from tuning.trial import TrialSetup, trial_name


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found. Accuracies are shares in [0, 1]; the test set was read once."""

    name: str
    model: str
    dataset: str
    folder: Path
    config: dict[str, Any]  # of the winner, fixed values included
    trial: int  # the winner's number, 0 being the published recipe
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
    seconds: Mapping[str, float] = field(default_factory=dict)  # wall time by phase
    experiment_id: str = ""  # MLflow's
    unsent: int = 0  # runs that MLflow does not know all of


def conclude(setup: TrialSetup, log: StudyLog, verdict: Verdict) -> StudyResult:
    """Writes the winner's files and its place in the journal."""
    winner, baseline = verdict.winner, verdict.baseline
    weights, meta = checkpoint.load(winner.checkpoint)
    config = {**winner.config, **setup.fixed}
    scores: dict[str, Any] = {
        "val_accuracy": winner.val_accuracy,
        "test_accuracy": winner.test_accuracy,
        "baseline_val_accuracy": baseline.val_accuracy if baseline else None,
        "baseline_test_accuracy": baseline.test_accuracy if baseline else None,
    }
    details = {
        "study": setup.spec.name,
        "trial": winner.number,
        "config": config,
        "scores": scores,
        "checkpoint_metrics": meta["metrics"],
        "verdict": str(verdict),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    write_best(setup.folder, weights, {**description(setup, meta), **details})
    front = _conclude_front(setup, log, verdict)
    log.emit("result", winner=winner.number, verdict=str(verdict), **scores)
    outcomes = [record.outcome for record in log.records.values()]
    return StudyResult(
        name=setup.spec.name,
        model=setup.spec.model,
        dataset=setup.splits.name,
        score=setup.splits.score,
        folder=setup.folder,
        config=config,
        trial=winner.number,
        verdict=str(verdict),
        checkpoint=setup.folder / WEIGHTS,
        trials=len(outcomes),
        stopped=outcomes.count("stopped"),
        diverged=outcomes.count("diverged"),
        failed=outcomes.count("failed"),
        records=log.records,
        audit=_audit(setup.spec, log.records),
        front=front,
        **scores,
    )


def _audit(spec: StudySpec, records: Records) -> Audit | None:
    stops_early = spec.scheduler != "none" and len(spec.rungs) > 1
    return audit(records, spec.rungs, spec.reduction_factor) if stops_early else None


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
            config={**record.config, **setup.fixed},
            checkpoint=f"trials/{trial_name(record.number)}/best.safetensors",
        )
        for record in members
    )
    checkpoint.write_json(setup.folder / FRONT_FILE, [dataclasses.asdict(member) for member in front])
    return front
