"""A one-factor study for real: on Ray, into MLflow, interrupted and gone on with."""

import dataclasses
import json

import pytest
from mlflow import MlflowClient

from search_spaces.one_factor import OneFactor
from tuning import study_file
from tuning.journal import read
from tuning.levels import OneFactorResult
from tuning.one_factor import run
from tuning.prepare import Prepared, prepare_one_factor
from tuning.spec import StudySpec

LEVELS = OneFactor(
    question="Does <momentum> help?",
    model="resnet20",
    levels={"with": {}, "without": {"momentum": 0.0}, "squeezed": {"model": "se_resnet20"}},
    common={"batch_size": 64},
)


@dataclasses.dataclass(frozen=True)
class Done:
    prepared: Prepared
    result: OneFactorResult


@pytest.fixture(scope="module")
def done(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("one_factor")
    spec = StudySpec(
        model="resnet20",
        name="levels",
        epochs=2,
        seeds=2,
        scheduler="none",
        train_images=400,
        results_dir=str(folder / "results"),
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        precision="float32",
        memory_format="channels_last",
    )
    prepared = prepare_one_factor(spec, LEVELS)
    return Done(prepared, run(prepared))


@pytest.mark.slow
class TestStudy:
    def test_scores_every_level_with_every_seed(self, done: Done) -> None:
        assert [level.name for level in done.result.levels] == ["with", "without", "squeezed"]
        for level in done.result.levels:
            assert set(level.test_accuracies) == set(level.val_accuracies) == {0, 1}
            assert all(0 < accuracy < 1 for accuracy in level.test_accuracies.values())
        known = json.loads((done.prepared.folder / "levels.json").read_text())
        assert [level["name"] for level in known] == ["with", "without", "squeezed"]

    def test_writes_its_page(self, done: Done) -> None:
        page = (done.prepared.folder / "report.html").read_text()
        assert page.count("<svg") == 2
        assert "Does &lt;momentum&gt; help?" in page
        assert "against the first" in page

    def test_is_in_mlflow_with_each_test_accuracy_and_its_table(self, done: Done) -> None:
        client = MlflowClient(done.prepared.spec.tracking_uri)
        runs = client.search_runs([done.result.experiment_id], "tags.kind = 'trial'")
        assert len(runs) == 6
        scores = {(run.data.params["level"], int(run.data.params["replicate"])): run.data.metrics for run in runs}
        for level in done.result.levels:
            for seed, accuracy in level.test_accuracies.items():
                assert scores[level.name, seed]["test_accuracy"] == pytest.approx(accuracy)
        (parent,) = client.search_runs([done.result.experiment_id], "tags.kind = 'study'")
        assert "| without |" in parent.data.tags["mlflow.note.content"]
        files = {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert files == {"report.html", "levels.json"}
        assert parent.info.status == "FINISHED"

    def test_goes_on_from_its_own_files_without_training_or_testing_twice(self, done: Done) -> None:
        journal = done.prepared.folder / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        events = read(journal)[0]
        cut = next(i for i, event in enumerate(events) if event["event"] == "end" and event["trial"] == 4)
        journal.write_bytes(b"".join(lines[:cut]))  # as if the driver had died there
        prepared = prepare_one_factor(*study_file.read(done.prepared.storage), resume=True)  # type: ignore[arg-type]
        again = run(prepared)
        assert [level.test_accuracies for level in again.levels] == [
            level.test_accuracies for level in done.result.levels
        ]
        after = read(journal)[0]
        ended = {event["trial"] for event in events[:cut] if event["event"] == "end"}
        started = [event["trial"] for event in after[cut:] if event["event"] == "start"]
        assert sorted(started) == sorted(set(range(6)) - ended)
        assert 4 in started
        tested = [event["trial"] for event in after if event["event"] == "test"]
        assert sorted(tested) == list(range(6))
