"""What a study found: the result that `run_study` gives, and the files, report and MLflow entries that keep it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Splits
from tuning import checkpoint
from tuning.errors import DamagedStudy
from tuning.export import DESCRIPTION, WEIGHTS, write_best
from tuning.finals import Verdict, description
from tuning.journal import Event
from tuning.prepare import Prepared
from tuning.record import Records, StudyLog
from tuning.spec import StudySpec
from tuning.study_file import git_commit, versions
from tuning.trial import TrialSetup


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
    seconds: Mapping[str, float] = field(default_factory=dict)  # wall time by phase
    experiment_id: str = ""  # MLflow's
    unsent: int = 0  # runs that MLflow does not know all of


def conclude(setup: TrialSetup, log: StudyLog, verdict: Verdict) -> StudyResult:
    """Writes the winner's files and its place in the journal."""
    winner, baseline = verdict.winner, verdict.baseline
    weights, meta = checkpoint.load(winner.checkpoint)
    config = {**winner.config, **{name: value for name, value in setup.fixed.items() if name not in winner.config}}
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
    log.emit("result", winner=winner.number, verdict=str(verdict), **scores)
    return _result(setup.spec, setup.splits, setup.folder, details, log.records)


def known_result(prepared: Prepared, records: Records, done: Event) -> StudyResult:
    """The result of a study that an earlier run finished, `done` being the last event of its journal.

    Raises:
        DamagedStudy: its files are not what that run wrote.
    """
    path = prepared.folder / DESCRIPTION
    try:
        result = _result(prepared.spec, prepared.splits, prepared.folder, json.loads(path.read_text()), records)
    except (OSError, KeyError, ValueError) as error:
        raise DamagedStudy(f"{path} cannot be read ({error}); restore it from a copy") from error
    return dataclasses.replace(
        result, seconds=done["seconds"], experiment_id=done["experiment_id"], unsent=done["unsent"]
    )


def _result(spec: StudySpec, splits: Splits, folder: Path, details: Mapping[str, Any], records: Records) -> StudyResult:
    outcomes = [record.outcome for record in records.values()]
    return StudyResult(
        name=spec.name,
        model=spec.model,
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
        **details["scores"],
    )
