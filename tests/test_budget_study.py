"""A real study that a budget ends, that is resumed with nothing to do, then with more budget and another space."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from search_spaces.one_factor import OneFactor
from search_spaces.override import parse
from tuning import study_file
from tuning.changes import More, extend
from tuning.journal import read
from tuning.outcome import StudyResult
from tuning.prepare import prepare
from tuning.record import replay
from tuning.spec import StudySpec
from tuning.storage import Storage
from tuning.study import run, run_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("budget") / "cut"


@pytest.fixture(scope="module")
def cut(folder: Path) -> StudyResult:
    """Ended by its epoch budget, in the middle of its trials."""
    return run_study(
        StudySpec(
            model="resnet20", trials=100, epochs=3, epoch_budget=7, train_images=200, name=folder.name,
            precision="float32", memory_format="contiguous",
            results_dir=str(folder.parent), tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}",
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def again(cut: StudyResult, folder: Path) -> tuple[StudyResult, bytes, bytes]:
    """Resumed as it is, with its journal before and after."""
    before = (folder / "journal.jsonl").read_bytes()
    return resume(folder), before, (folder / "journal.jsonl").read_bytes()


@pytest.fixture(scope="module")
def longer(again: tuple[StudyResult, bytes, bytes], folder: Path) -> StudyResult:
    """Resumed for eight more epochs, with learning rates below and above those of the trials so far."""
    started = replay(read(folder / "journal.jsonl")[0])
    rates = sorted(record.config["lr"] for record in started.values() if record.number)
    values = {"lr": parse("lr", f"{rates[0] * 1.0001}:0.9:log")}  # the smallest no longer fits
    return resume(folder, {"epoch_budget": More(8)}, values)


def resume(folder: Path, fields: dict[str, Any] | None = None, values: dict[str, Any] | None = None) -> StudyResult:
    spec, space, changes = extend(
        *study_file.read(Storage(str(folder.parent), folder.name)), fields or {}, values or {}, None
    )
    prepared = prepare(spec, space, resume=True)  # type: ignore[arg-type]
    return run(dataclasses.replace(prepared, changes=changes))


def test_the_epoch_budget_ends_the_search_with_its_best_so_far(cut: StudyResult, folder: Path) -> None:
    records = cut.records.values()
    assert sum(len(record.epochs) for record in records) == 7
    interrupted = [record for record in records if record.outcome == "interrupted"]
    assert interrupted
    assert {record.reason for record in interrupted} == {"ended by the epoch budget"}
    assert cut.val_accuracy == max(record.score for record in records)
    assert (folder / "report.html").exists()
    (event,) = [event for event in read(folder / "journal.jsonl")[0] if event["event"] == "budget"]
    assert (event["name"], event["limit"]) == ("epoch_budget", 7)


def test_resumed_without_more_budget_it_does_nothing_and_shows_the_same(
    cut: StudyResult, again: tuple[StudyResult, bytes, bytes]
) -> None:
    result, before, after = again
    assert before == after
    assert dataclasses.asdict(result) == dataclasses.asdict(cut)


def test_with_more_budget_it_goes_on_and_counts_what_was_used(
    cut: StudyResult, longer: StudyResult, folder: Path
) -> None:
    assert sum(len(record.epochs) for record in longer.records.values()) == 7 + 8
    for number, record in cut.records.items():
        known = longer.records[number].epochs[: len(record.epochs)]
        assert known == record.epochs, "nothing is lost or trained anew"
    description = json.loads((folder / "study.json").read_text())
    assert description["spec"]["epoch_budget"] == 15
    (entry,) = description["history"]
    assert entry["changes"][0] == "epoch_budget: 7 in the study, 15 asked for"
    assert entry["changes"][1].startswith("lr: 0.01 .. 0.5, log in the study, ")


def test_a_trial_that_the_new_space_has_not_is_kept_and_not_continued(
    cut: StudyResult, longer: StudyResult, folder: Path
) -> None:
    spaces = study_file.read(Storage(str(folder.parent), folder.name))[1]
    assert not isinstance(spaces, OneFactor)
    space = spaces[longer.model]
    left_out = [n for n in cut.records if space.fitting(longer.records[n].config) is None]
    assert left_out
    for number in left_out:
        assert longer.records[number].epochs == cut.records[number].epochs
    fresh = [record for number, record in longer.records.items() if number not in cut.records]
    assert fresh, "numbers go on after those of all earlier trials"
    for record in fresh:
        assert space.fitting(record.config) == record.config


def test_mlflow_still_has_one_run_a_trial(longer: StudyResult, folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    runs = client.search_runs([longer.experiment_id], "tags.study = 'cut'")
    trials = sorted(int(run.data.tags["trial"]) for run in runs if run.data.tags["kind"] == "trial")
    assert trials == sorted(longer.records)
    assert all(run.info.status != "RUNNING" for run in runs)
