"""The copy of a study in Optuna's own storage: its trials are ours, whatever happened to the file."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from tuning.optuna_study import OPTUNA_FILE, OptunaStudy, open_study
from tuning.record import Records, apply

SPACE = {"lr": FloatDistribution(0.01, 1, log=True), "policy": CategoricalDistribution(("a", "b"))}


class Study:
    """A study's events, told to the observer as a real one would."""

    def __init__(self, folder: Path, records: Records | None = None) -> None:
        self.observer, self.records = OptunaStudy(folder, "x", SPACE), records if records is not None else Records()

    def tell(self, event: str, **fields: Any) -> None:
        written = {"event": event, "time": 1000.0 + len(self.records), **fields}
        apply(self.records, written)
        self.observer(written, self.records)

    def trial(self, number: int, config: dict[str, Any], scores: list[float], outcome: str | None = None) -> None:
        self.tell("start", trial=number, config=config)
        for epoch, score in enumerate(scores, start=1):
            self.tell("report", trial=number, metrics={"epoch": epoch, "val_accuracy": score})
        if outcome:
            self.tell("end", trial=number, outcome=outcome, reason=f"it {outcome}")


def filled(folder: Path) -> Study:
    study = Study(folder)
    study.trial(0, {"lr": 0.1, "policy": "a"}, [0.5, 0.8, 0.7], "completed")
    study.trial(1, {"lr": 0.2}, [0.4], "stopped")
    study.trial(2, {"lr": 0.9, "policy": "b"}, [0.1], "diverged")
    study.trial(3, {"lr": 0.3, "policy": "b"}, [], "failed")
    study.trial(4, {"lr": 0.05, "policy": "a"}, [0.6, 0.9, 0.9], "completed")
    study.trial(5, {"lr": 0.02, "policy": "a"}, [0.3], "interrupted")
    return study


def facts(folder: Path) -> dict[int, tuple[TrialState, float | None, dict[str, Any], dict[int, float], str]]:
    trials = open_study(folder, "x").trials
    known = {
        t.user_attrs["trial"]: (t.state, t.value, t.params, t.intermediate_values, t.user_attrs["outcome"])
        for t in trials
    }
    assert len(known) == len(trials), "no trial twice"
    return known


def test_every_trial_has_its_state_parameters_and_curve(tmp_path: Path) -> None:
    filled(tmp_path)
    assert facts(tmp_path) == {
        0: (TrialState.COMPLETE, 0.8, {"lr": 0.1, "policy": "a"}, {1: 0.5, 2: 0.8, 3: 0.7}, "completed"),
        1: (TrialState.PRUNED, 0.4, {"lr": 0.2}, {1: 0.4}, "stopped"),
        2: (TrialState.FAIL, None, {"lr": 0.9, "policy": "b"}, {1: 0.1}, "diverged"),
        3: (TrialState.FAIL, None, {"lr": 0.3, "policy": "b"}, {}, "failed"),
        4: (TrialState.COMPLETE, 0.9, {"lr": 0.05, "policy": "a"}, {1: 0.6, 2: 0.9, 3: 0.9}, "completed"),
        5: (TrialState.FAIL, None, {"lr": 0.02, "policy": "a"}, {1: 0.3}, "interrupted"),
    }
    study = open_study(tmp_path, "x")
    assert study.trials[0].distributions == SPACE
    assert study.trials[1].user_attrs["reason"] == "it stopped"
    assert study.best_trial.user_attrs["trial"] == 4
    assert study.trials[0].duration is not None


def test_running_trials_are_not_in_it(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.trial(0, {"lr": 0.1, "policy": "a"}, [0.5])
    assert facts(tmp_path) == {}


@pytest.mark.parametrize("damage", ["none", "torn", "empty", "missing", "nonsense", "locked"])
def test_a_resumed_study_writes_it_anew(damage: str, tmp_path: Path) -> None:
    records = filled(tmp_path).records
    before, path = facts(tmp_path), tmp_path / OPTUNA_FILE
    content = path.read_bytes()
    if damage == "torn":
        path.write_bytes(content[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "nonsense":
        path.write_bytes(b"\x00" * 50 + b"\n" + content)
    elif damage == "locked":  # a driver killed while it wrote
        Path(f"{path}.lock").symlink_to(path)
    start = time.perf_counter()
    resumed = Study(tmp_path, records)
    resumed.trial(5, {"lr": 0.02, "policy": "a"}, [0.4, 0.5], "completed")
    assert time.perf_counter() - start < 10, "Optuna itself waits 30 s for a lock that nobody holds"
    after = facts(tmp_path)
    assert {number: after[number] for number in range(5)} == {number: before[number] for number in range(5)}
    assert after[5][0] == TrialState.COMPLETE
    assert sorted(after) == list(range(6))
    assert {file.name for file in tmp_path.iterdir()} == {OPTUNA_FILE}


def test_a_file_that_cannot_be_written_ends_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / OPTUNA_FILE).mkdir()
    filled(tmp_path)
    assert capsys.readouterr().out.count("could not be written") == 1


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optunas_plots_work_on_it(tmp_path: Path) -> None:
    from optuna.visualization.matplotlib import plot_intermediate_values, plot_optimization_history

    filled(tmp_path)
    study = open_study(tmp_path, "x")
    lines = plot_intermediate_values(study).get_lines()
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [[0.5, 0.8, 0.7], [0.4], [0.6, 0.9, 0.9]]
    assert plot_optimization_history(study).collections
