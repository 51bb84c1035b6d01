"""The front of a study: which trials are on it, and what a real study with two objectives makes of it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import search_spaces
from cluster.resources import Cluster, Resources
from search_spaces.override import override, parse
from tuning import checkpoint
from tuning.budget import Meter
from tuning.errors import NoResources
from tuning.front import candidates, pareto_front, ranked, shown
from tuning.journal import Journal, read
from tuning.objectives import parse as goals_of
from tuning.outcome import StudyResult
from tuning.prepare import slots
from tuning.record import Records, StudyLog, TrialRecord, replay
from tuning.recorder import Recorder
from tuning.scheduler import make_scheduler
from tuning.spec import StudySpec
from tuning.storage import Storage
from tuning.study import run_study
from tuning.trial import trial_name

TWO = goals_of("val_accuracy,latency_ms", "latency_ms<5")


def records(*trials: tuple[float, float, str]) -> Records:
    """Trials of one epoch with these accuracies, latencies and outcomes."""
    return {
        number: TrialRecord(number, {}, 0.0, outcome, epochs=[{"val_accuracy": accuracy, "latency_ms": latency}])
        for number, (accuracy, latency, outcome) in enumerate(trials)
    }


def numbers(found: list[TrialRecord]) -> list[int]:
    return [record.number for record in found]


def test_only_completed_feasible_trials_are_on_the_front() -> None:
    trials = records(
        (0.5, 1.0, "completed"), (0.9, 4.0, "completed"), (0.4, 2.0, "completed"),
        (0.95, 0.5, "stopped"), (0.99, 6.0, "completed"),
    )  # fmt: skip
    assert numbers(pareto_front(trials, TWO)) == numbers(candidates(trials, TWO)) == [1, 0]
    assert numbers(ranked(trials, TWO)) == [3, 1, 0, 2, 4], "the infeasible one is last whatever its accuracy"


def test_without_a_front_the_nearest_to_the_constraints_come_first() -> None:
    trials = records((0.5, 50.0, "completed"), (0.4, 6.0, "completed"))
    assert pareto_front(trials, TWO) == []
    assert numbers(candidates(trials, TWO)) == [1, 0]
    assert candidates({0: TrialRecord(0, {}, 0.0)}, TWO) == [], "no epoch, no candidate"


class Named:
    """What the recorder asks of Ray's trials."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return trial_name(self.number)


def test_checkpoints_of_the_front_are_kept_besides_the_best(tmp_path: Path) -> None:
    spec = StudySpec(model="resnet20", name="x", epochs=1, objectives="val_accuracy,latency_ms")
    trials = records(
        (0.1, 9.0, "completed"), (0.9, 4.0, "completed"), (0.8, 5.0, "completed"),
        (0.5, 2.0, "completed"), (0.3, 1.0, "running"), (0.2, 8.0, "running"),
    )  # fmt: skip
    for number in trials:
        (tmp_path / "trials" / trial_name(number)).mkdir(parents=True)
    log = StudyLog(Journal(tmp_path / "journal.jsonl"), trials, Meter(), [])
    storage = Storage(str(tmp_path.parent), tmp_path.name)
    Recorder(log, make_scheduler(spec), storage.remove, spec, keep=1).on_trial_complete(1, [], Named(4))
    log.journal.close()
    kept = sorted(path.name for path in (tmp_path / "trials").iterdir())
    assert kept == [trial_name(number) for number in (0, 1, 3, 4, 5)], "baseline, best, front and running"


def test_metrics_are_shown_as_people_read_them() -> None:
    pairs = {"parameters": 1234567, "latency_ms": 3.14159, "val_accuracy": 0.5, "val_loss": 0.25, "gpu_memory_mb": 812}
    assert [shown(n, v) for n, v in pairs.items()] == ["1,234,567", "3.14", "50.00 %", "0.2500", "812"]


def test_gpu_memory_is_refused_where_trials_have_no_gpu() -> None:
    spec = StudySpec(model="resnet20", name="x", objectives="val_accuracy,gpu_memory_mb")
    with pytest.raises(NoResources, match="gpu_memory_mb can only be measured where trials have a GPU"):
        slots(spec, Cluster(nodes=(Resources(cpus=4, gpus=0),)))
    assert slots(spec, Cluster(nodes=(Resources(cpus=4, gpus=1),)))[1].gpus == 1


@dataclasses.dataclass(frozen=True)
class Traded:
    spec: StudySpec
    result: StudyResult


@pytest.fixture(scope="module")
def traded(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Traded:
    """Accuracy against latency, of networks of two sizes, the larger of which has too many parameters."""
    folder: Path = tmp_path_factory.mktemp("traded")
    spec = StudySpec(
        model="mobilenet_v1", image_size=16, train_images=128, trials=5, epochs=2, name="traded", scheduler="none",
        objectives="val_accuracy,latency_ms", constraints="parameters<1e6", precision="float32",
        memory_format="contiguous", results_dir=str(folder), tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )  # fmt: skip
    space = search_spaces.for_model("mobilenet_v1")
    for key, text in {"width": "1,0.25,0.1", "batch_size": "32"}.items():
        space = override(space, key, parse(key, text))
    return Traded(spec, run_study(spec, space))


pytestmark = pytest.mark.slow


def test_what_costs_too_much_is_stopped_after_its_first_epoch_but_for_the_baseline(traded: Traded) -> None:
    all_records = sorted(traded.result.records.values(), key=lambda record: record.number)  # not as they were started
    large = [record for record in all_records if record.config["width"] == 1]
    assert [(record.number, record.outcome) for record in large[:1]] == [(0, "completed")]
    assert 1 < len(large) < len(all_records), "choose another seed"
    for record in large[1:]:
        assert (record.outcome, len(record.epochs)) == ("stopped", 1)
        assert re.fullmatch(r"stopped at epoch 1: parameters 32\d{5} violates parameters<1000000", record.reason)
    small = [record for record in all_records if record.config["width"] < 1]
    assert {record.outcome for record in small} == {"completed"}


def test_each_epoch_has_the_costs_and_equal_architectures_the_same(traded: Traded) -> None:
    costs: dict[float, set[Any]] = {}
    for record in traded.result.records.values():
        found = {(metrics["parameters"], metrics["latency_ms"]) for metrics in record.epochs}
        costs.setdefault(record.config["width"], set()).update(found)
        assert (record.epochs[0]["parameters"] > 3e6) == (record.config["width"] == 1)
    assert all(len(found) == 1 for found in costs.values())
    known = json.loads((traded.result.folder / "latency.json").read_text())
    assert sorted(known.values()) == sorted(latency for found in costs.values() for _, latency in found)
    assert replay(read(traded.result.folder / "journal.jsonl")[0]) == traded.result.records


def test_the_winner_is_the_front_s_most_accurate(traded: Traded) -> None:
    result = traded.result
    front = pareto_front(result.records, traded.spec.goals)
    assert [member.trial for member in result.front] == numbers(front) == [r.number for r in front if r.pareto]
    assert result.trial == result.front[0].trial
    assert result.records[result.trial].config["width"] < 1
    assert "the published recipe does not satisfy the constraints: parameters" in result.verdict
    assert result.front[0].test_accuracy == result.test_accuracy


def test_the_front_is_measured_kept_and_told(traded: Traded) -> None:
    result = traded.result
    for member in result.front:
        meta = checkpoint.load(result.folder / member.checkpoint)[1]
        assert meta["metrics"]["latency_ms"] == member.values["latency_ms"]
        assert result.records[member.trial].test_accuracy == member.test_accuracy
    file = json.loads((result.folder / "front.json").read_text())
    assert [(entry["trial"], entry["values"]) for entry in file] == [(m.trial, m.values) for m in result.front]
    page = (result.folder / "report.html").read_text()
    assert "<h2>The front</h2>" in page
    assert result.front[0].checkpoint in page


def test_mlflow_marks_the_front(traded: Traded) -> None:
    client = MlflowClient(traded.spec.tracking_uri)

    def tagged(query: str) -> list[Run]:
        return list(client.search_runs([traded.result.experiment_id], query))

    on_front = {member.trial for member in traded.result.front}
    assert {int(run.data.tags["trial"]) for run in tagged("tags.pareto = 'true'")} == on_front
    for run in tagged("tags.kind = 'trial'"):
        assert {"latency_ms", "parameters"} <= set(run.data.metrics)
    (parent,) = tagged("tags.kind = 'study'")
    assert "front.json" in [file.path for file in client.list_artifacts(parent.info.run_id)]
