"""Two architectures sharing one budget for real: on Ray, into MLflow, interrupted and gone on with."""

import dataclasses
import json

import pytest
from mlflow import MlflowClient

from tests.conftest import Finished
from tuning import study_file
from tuning.export import load_best
from tuning.journal import read
from tuning.prepare import prepare
from tuning.record import recipe_of
from tuning.spec import StudySpec
from tuning.storage import Storage
from tuning.study import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Six trials of two architectures that take images of different sizes."""
    folder = tmp_path_factory.mktemp("portfolio")
    spec = StudySpec(
        model="resnet20",
        rivals=("mobilenet_v3_small",),
        name="shared",
        trials=6,
        epochs=2,
        train_images=200,
        results_dir=str(folder / "results"),
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        precision="float32",
        memory_format="channels_last",
    )
    return Finished(spec, run(prepare(spec)))


def test_every_recipe_runs_to_the_end_first(shared: Finished) -> None:
    records = shared.result.records
    assert sorted(records) == list(range(6))
    for number, model in enumerate(shared.spec.architectures):
        assert (records[number].model, records[number].recipe, records[number].outcome) == (model, True, "completed")
    assert [record.recipe for record in records.values()].count(True) == 2
    assert min(sum(r.model == model for r in records.values()) for model in shared.spec.architectures) == 3


def test_the_leaderboard_holds_the_best_of_each(shared: Finished) -> None:
    result, records = shared.result, shared.result.records
    first, second = result.architectures
    assert first.val_accuracy == result.val_accuracy == max(record.score for record in records.values())
    assert (first.trial, first.model, first.gain) == (result.trial, result.model, None)
    assert second.gain == pytest.approx(second.test_accuracy - first.test_accuracy)  # type: ignore[operator]
    for each in result.architectures:
        own = [record for record in records.values() if record.model == each.model]
        assert each.val_accuracy == max(record.score for record in own)
        assert (each.trials, each.epochs) == (len(own), sum(len(record.epochs) for record in own))
        baseline = recipe_of(own[0], records)
        assert baseline
        assert each.trial is not None
        assert each.baseline_val_accuracy == baseline.score
        assert each.baseline_test_accuracy == baseline.test_accuracy
        assert each.test_accuracy == records[each.trial].test_accuracy
        assert "published recipe" in each.verdict
    known = json.loads((result.folder / "leaderboard.json").read_text())
    assert known == [dataclasses.asdict(each) for each in result.architectures]


def test_the_winner_can_be_loaded_and_has_its_own_image_size(shared: Finished) -> None:
    result = shared.result
    _, description = load_best(result.folder)
    assert description["model"] == result.model
    assert description["build"]["image_size"] == result.architectures[0].image_size
    assert "model" not in description["config"]
    assert {each.image_size for each in result.architectures} == {8, 16}


def test_the_page_compares_the_architectures(shared: Finished) -> None:
    page = (shared.result.folder / "report.html").read_text()
    assert "<h1>resnet20, mobilenet_v3_small on digits</h1>" in page
    assert page.count("<svg") == 3
    assert "Leaderboard" in page


def test_mlflow_has_one_study_with_the_architecture_of_each_trial(shared: Finished) -> None:
    client = MlflowClient(shared.spec.tracking_uri)
    runs = client.search_runs([shared.result.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["kind"] == "study"]
    trials = {int(run.data.tags["trial"]): run for run in runs if run.data.tags["kind"] == "trial"}
    records = shared.result.records
    assert {number: run.data.tags["model"] for number, run in trials.items()} == {
        number: record.model for number, record in records.items()
    }
    assert trials[1].info.run_name == "trial_0001 mobilenet_v3_small, recipe"
    for each in shared.result.architectures:
        assert parent.data.metrics[f"test_accuracy/{each.model}"] == each.test_accuracy
        assert trials[each.trial].data.metrics["test_accuracy"] == each.test_accuracy  # type: ignore[index]
        assert f"| {each.model} |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["model"] == "resnet20, mobilenet_v3_small"
    assert "leaderboard.json" in {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_goes_on_from_its_own_files(shared: Finished) -> None:
    """Cut before the second last trial ended."""
    folder = shared.result.folder
    journal = folder / "journal.jsonl"
    lines, events = journal.read_bytes().splitlines(keepends=True), read(journal)[0]
    ends = [index for index, event in enumerate(events) if event["event"] == "end"]
    journal.write_bytes(b"".join(lines[: ends[-2]]))
    ended = {event["trial"] for event in events[: ends[-2]] if event["event"] == "end"}
    spec, spaces = study_file.read(Storage(str(folder.parent), folder.name))
    assert spec.architectures == shared.spec.architectures
    again = run(prepare(spec, spaces, resume=True))  # type: ignore[arg-type]
    after = read(journal)[0][ends[-2] :]
    assert sorted(event["trial"] for event in after if event["event"] == "start") == sorted(set(range(6)) - ended)
    assert sorted(again.records) == list(range(6))
    assert [(r.number, r.model) for r in again.records.values() if r.number in ended] == [
        (r.number, r.model) for r in shared.result.records.values() if r.number in ended
    ]
    runs = MlflowClient(spec.tracking_uri).search_runs([again.experiment_id])
    assert len(runs) == 7, "one run a trial and the study's"
