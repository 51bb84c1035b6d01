"""Real studies on a real Ray with a real MLflow store: what they leave behind fits together."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

import datasets
import search_spaces
from datasets import Images
from search_spaces.override import override, parse
from tests.conftest import Finished
from tuning import study_file
from tuning.checkpoint import Damaged
from tuning.classifier import Format, Normalised, predict
from tuning.errors import EveryTrialFailed, Locked
from tuning.export import load_best
from tuning.finals import Finalist, Verdict
from tuning.journal import read
from tuning.loader import Loader
from tuning.lock import only_driver
from tuning.optuna_study import open_study
from tuning.prepare import prepare
from tuning.record import replay
from tuning.scores import score_of
from tuning.spec import METRIC, StudySpec
from tuning.storage import Storage
from tuning.study import run, run_study

pytestmark = pytest.mark.slow


def runs(finished: Finished) -> tuple[Run, dict[int, Run]]:
    """The study's run in MLflow and the trials' by number."""
    client = MlflowClient(finished.spec.tracking_uri)
    found = client.search_runs([finished.result.experiment_id], "tags.study = 'finished'")
    parents = [run for run in found if run.data.tags["kind"] == "study"]
    trials = {int(run.data.tags["trial"]): run for run in found if run.data.tags["kind"] == "trial"}
    assert len(parents) == 1
    assert len(found) == 1 + len(trials)
    return parents[0], trials


def test_the_result_is_the_best_trial(finished: Finished) -> None:
    result = finished.result
    assert result.trials == 7
    assert sorted(result.records) == list(range(7))
    assert result.failed == 0
    assert result.val_accuracy == max(record.score for record in result.records.values())
    assert result.val_accuracy >= (result.baseline_val_accuracy or 0)
    assert 0.5 < result.test_accuracy <= 1
    assert result.unsent == 0
    assert set(result.seconds) == {"start-up", "search", "finals", "export"}


def test_the_published_recipe_comes_first_and_runs_to_the_end(finished: Finished) -> None:
    baseline = finished.result.records[0]
    space = search_spaces.for_model("resnet20")
    assert baseline.config == space.active(space.baseline)
    assert baseline.outcome == "completed"
    assert len(baseline.epochs) == 3


def test_weak_trials_were_stopped_at_a_rung(finished: Finished) -> None:
    stopped = [record for record in finished.result.records.values() if record.outcome == "stopped"]
    assert stopped, "with seven trials and a factor of 3 somebody has to go"
    for record in stopped:
        assert len(record.epochs) == finished.spec.rungs[0]
        assert record.reason.startswith("stopped at epoch 1: ")


def test_the_journal_tells_the_same_story(finished: Finished) -> None:
    events, _ = read(finished.result.folder / "journal.jsonl")
    replayed = replay(events)
    assert {n: dataclasses.asdict(r) for n, r in replayed.items()} == {
        n: dataclasses.asdict(r) for n, r in finished.result.records.items()
    }
    assert [event["event"] for event in events[-2:]] == ["result", "done"]
    assert events[-2]["winner"] == finished.result.trial


def test_the_folder_holds_what_is_needed_and_no_more(finished: Finished) -> None:
    folder = finished.result.folder
    names = {path.name for path in folder.iterdir()} - {".lock"}
    files = {"study.json", "journal.jsonl", "optuna.log", "best.safetensors", "best.json", "report.html"}
    assert names == {*files, "trials"}
    kept = {path.name for path in (folder / "trials").iterdir()}
    assert {"trial_0000", f"trial_{finished.result.trial:04d}"} <= kept
    assert len(kept) <= 4, "the three best and the baseline"
    assert not list(folder.rglob("state.safetensors")), "ended trials need no state to go on from"
    description = json.loads((folder / "study.json").read_text())
    paths = {"data_dir": str(Path("data").absolute())}  # absolute, to resume from any folder; the others are already
    assert description["spec"] == {**dataclasses.asdict(finished.spec), **paths, "rivals": []}
    assert study_file.read(Storage(str(folder.parent), folder.name))[0] == dataclasses.replace(finished.spec, **paths)  # type: ignore[arg-type]


def test_optuna_knows_every_trial(finished: Finished) -> None:
    states = {"completed": "COMPLETE", "stopped": "PRUNED"}
    known = {t.user_attrs["trial"]: t for t in open_study(finished.result.folder, "finished").trials}
    records = finished.result.records
    assert {n: t.state.name for n, t in known.items()} == {n: states[r.outcome] for n, r in records.items()}
    assert {n: t.value for n, t in known.items()} == {n: r.score for n, r in records.items()}
    assert {n: t.params for n, t in known.items()} == {n: r.config for n, r in records.items()}


def accuracy_of(model: Normalised, part: Images, format: Format) -> float:
    return score_of(*predict(model, Loader(part, "cpu"), format))


def test_the_winner_can_be_rebuilt_and_gives_the_logged_accuracy_exactly(finished: Finished) -> None:
    model, description = load_best(finished.result.folder)
    splits = datasets.load("digits", root="unused", seed=finished.spec.seed)
    format = Format(**description["format"])
    for part, accuracy in ((splits.val, finished.result.val_accuracy), (splits.test, finished.result.test_accuracy)):
        assert accuracy_of(model, part, format) == accuracy
    assert description["scores"]["test_accuracy"] == finished.result.test_accuracy
    assert description["classes"] == list("0123456789")


def test_a_changed_weight_file_is_refused(finished: Finished, tmp_path: Path) -> None:
    for name in ("best.safetensors", "best.json"):
        (tmp_path / name).write_bytes((finished.result.folder / name).read_bytes())
    content = bytearray((tmp_path / "best.safetensors").read_bytes())
    content[-100] ^= 1
    (tmp_path / "best.safetensors").write_bytes(content)
    with pytest.raises(Damaged, match="is not the file that best.json describes"):
        load_best(tmp_path)


def test_mlflow_has_a_run_a_trial_under_the_study(finished: Finished) -> None:
    parent, trials = runs(finished)
    assert sorted(trials) == list(range(7))
    statuses = {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED"}
    for number, trial in trials.items():
        record = finished.result.records[number]
        assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert trial.info.status == statuses[record.outcome]
        assert trial.data.tags["outcome"] == record.outcome
        assert trial.data.params == {key: str(value) for key, value in record.config.items()}
        assert trial.data.metrics["best_val_accuracy"] == record.score
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test_accuracy"] == finished.result.test_accuracy
    assert finished.result.audit
    assert finished.result.audit.metrics.items() <= parent.data.metrics.items()
    assert parent.data.params["model"] == "resnet20"


def test_mlflow_has_each_metric_of_each_epoch_once(finished: Finished) -> None:
    client = MlflowClient(finished.spec.tracking_uri)
    for number, trial in runs(finished)[1].items():
        epochs = finished.result.records[number].epochs
        for name in set(epochs[0]) - {"epoch"}:
            history = client.get_metric_history(trial.info.run_id, name)
            assert [(m.step, m.value) for m in history] == [(e["epoch"], e[name]) for e in epochs]


@pytest.fixture(scope="module")
def model_uri(finished: Finished) -> str:
    parent, _ = runs(finished)
    mlflow.set_tracking_uri(finished.spec.tracking_uri)
    models = mlflow.search_logged_models(
        [finished.result.experiment_id], f"source_run_id = '{parent.info.run_id}'", output_format="list"
    )
    assert len(models) == 1
    return str(models[0].model_uri)


@pytest.mark.filterwarnings("ignore")  # MLflow's loading of an exported program is not ours to mend
def test_the_logged_model_takes_raw_images(finished: Finished, model_uri: str) -> None:
    splits = datasets.load("digits", root="unused", seed=finished.spec.seed)
    model = mlflow.pytorch.load_model(model_uri)
    with torch.no_grad():
        logits = model(torch.tensor(splits.test.images))
    accuracy = (logits.argmax(1) == torch.tensor(splits.test.labels)).float().mean().item()
    assert accuracy == pytest.approx(finished.result.test_accuracy, abs=0.003)


@pytest.mark.filterwarnings("ignore")
def test_the_logged_model_serves_predictions(finished: Finished, model_uri: str, tmp_path: Path) -> None:
    images = datasets.load("digits", root="unused").test.images[:3]
    (tmp_path / "images.json").write_text(json.dumps({"inputs": images.tolist()}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", model_uri, "--env-manager", "local"]
    command += ["-i", str(tmp_path / "images.json"), "-o", str(tmp_path / "out.json")]
    # a folder without our code, as on another machine
    environment = {**os.environ, "MLFLOW_TRACKING_URI": finished.spec.tracking_uri}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    predictions = np.array(json.loads((tmp_path / "out.json").read_text())["predictions"])
    model, _ = load_best(finished.result.folder)
    with torch.no_grad():
        assert np.allclose(predictions, model(torch.tensor(images)).numpy(), atol=1e-3)


def small(tmp_path: Path, **fields: object) -> StudySpec:
    options = {
        "model": "resnet20", "trials": 2, "epochs": 1, "name": "small", "precision": "float32",
        "memory_format": "contiguous",
        "results_dir": str(tmp_path), "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}", **fields,
    }  # fmt: skip
    return StudySpec(**options)  # type: ignore[arg-type]


def test_the_search_never_sees_the_test_set(ray_session: None, tmp_path: Path) -> None:
    """Not one test image is read before the finals, and each of the two finalists reads it once."""
    prepared = prepare(small(tmp_path))
    marker = tmp_path / "reads"

    def read_test() -> Images:
        with open(marker, "a") as file:
            file.write("finals" if phases[-1] == "finals" else "search")
        return prepared.splits.test

    phases: list[str] = []
    counted = dataclasses.replace(prepared, splits=dataclasses.replace(prepared.splits, read_test=read_test))
    run(counted, phase=phases.append)
    assert marker.read_text() == "finals"


def test_a_study_where_nothing_trains_says_so(ray_session: None, tmp_path: Path) -> None:
    space = search_spaces.for_model("resnet20")
    for text in ("lr=99", "momentum=0.9999", "weight_decay=10", "batch_size=8"):
        key, _, value = text.partition("=")
        space = override(space, key, parse(key, value))
    with pytest.raises(
        EveryTrialFailed, match="no trial finished an epoch: the loss became infinite or NaN in epoch 1"
    ):
        run_study(small(tmp_path), space)
    outcomes = [record.outcome for record in replay(read(tmp_path / "small" / "journal.jsonl")[0]).values()]
    assert outcomes == ["diverged", "diverged"]


def test_a_trial_that_fails_costs_only_itself(ray_session: None, tmp_path: Path) -> None:
    prepared = prepare(small(tmp_path, trials=3))
    in_the_way = prepared.folder / "trials" / "trial_0001" / "best.safetensors"
    (in_the_way / "folder").mkdir(parents=True)  # where the checkpoint should go
    result = run(prepared)
    assert (result.trials, result.failed) == (3, 1)
    assert result.records[1].outcome == "failed"
    assert "best.safetensors" in result.records[1].reason
    found = MlflowClient(prepared.spec.tracking_uri).search_runs([result.experiment_id], "tags.trial = '1'")
    assert [(run.info.status, run.data.tags["outcome"]) for run in found] == [("FAILED", "failed")]


def test_the_time_budget_ends_the_search_with_the_best_so_far(ray_session: None, tmp_path: Path) -> None:
    result = run_study(small(tmp_path, trials=500, epochs=4, time_budget=40.0))
    assert 1 <= result.trials < 500
    assert result.seconds["search"] < 90
    assert {record.outcome for record in result.records.values()} >= {"completed", "interrupted"}
    assert result.val_accuracy > 0


def test_finals_over_seeds_train_again_and_give_an_interval(ray_session: None, tmp_path: Path) -> None:
    result = run_study(small(tmp_path, epochs=2, finals="1x2"))
    assert len(list((tmp_path / "small" / "finals").iterdir())) in (2, 4), "two seeds of the winner and of the baseline"
    assert "95 % interval" in result.verdict or "no configuration beat" in result.verdict
    model, description = load_best(result.folder)
    splits = datasets.load("digits", root="unused")
    exported = accuracy_of(model, splits.val, Format())
    assert exported == description["checkpoint_metrics"][METRIC]


def test_a_running_study_cannot_be_started_again(ray_session: None, tmp_path: Path) -> None:
    prepared = prepare(small(tmp_path))
    prepared.folder.mkdir()
    with only_driver(prepared.folder), pytest.raises(Locked, match=f"is being run by process {os.getpid()} on "):
        run(prepared)


def finalist(number: int, *accuracies: float) -> Finalist:
    return Finalist(
        number=number,
        config={},
        checkpoints=tuple(str(a) for a in accuracies),
        val_accuracies=accuracies,
        test_accuracies=accuracies,
    )


def test_verdicts() -> None:
    good, bad = finalist(3, 0.9), finalist(0, 0.5)
    assert str(Verdict(winner=good, baseline=bad, margin=0.05)).startswith(
        "better than the published recipe by 40.0 points"
    )
    assert str(Verdict(winner=good, baseline=bad, margin=0.5)).startswith(
        "a tie with the published recipe: +40.0 points"
    )
    assert str(Verdict(winner=finalist(3, 0.2), baseline=bad, margin=0.1)).startswith("worse than")
    assert str(Verdict(winner=bad, baseline=bad, margin=0.1)).startswith("no configuration beat")
    assert str(Verdict(winner=good, baseline=None, margin=0.1)).endswith("did not train at all here")
    assert finalist(1, 0.2, 0.6).checkpoint == "0.6"
