"""MLflow over HTTP, from a real server that also dies."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tuning.addresses import absolute_uri, check_tracking
from tuning.record import Records, apply, replay
from tuning.spec import StudySpec
from tuning.tracking import Tracker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address and process of an MLflow server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.3)
    yield address, process
    end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


class Study:
    """A study's events, told to a tracker as a real one would."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.records = tracker, Records()

    def tell(self, event: str, **fields: Any) -> None:
        written = {"event": event, "time": time.time(), **fields}
        apply(self.records, written)
        self.tracker(written, self.records)


def spec(uri: str) -> StudySpec:
    return StudySpec(model="resnet20", name="http", tracking_uri=uri)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_dies_delays_nothing_and_what_it_missed_is_counted(
    server: tuple[str, subprocess.Popen[bytes]],
) -> None:
    address, process = server
    study = Study(Tracker(spec(address), "digits", {"epochs": 3}))
    study.tracker.ready()
    study.tell("start", trial=0, config={"lr": 0.1})
    study.tell("report", trial=0, metrics={"epoch": 1, "val_accuracy": 0.5})
    client = MlflowClient(address)
    deadline = time.monotonic() + 60
    while True:
        runs = client.search_runs([study.tracker.experiment_id], "tags.kind = 'trial'")
        if runs and runs[0].data.metrics:
            break
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert runs[0].data.metrics == {"val_accuracy": 0.5}
    assert runs[0].data.params == {"lr": "0.1"}
    end(process)
    before = time.monotonic()
    for epoch in range(2, 200):
        study.tell("report", trial=0, metrics={"epoch": epoch, "val_accuracy": 0.6})
    assert time.monotonic() - before < 1, "telling is only noting down"
    assert study.tracker.close("FINISHED") == 2, "the trial's run and the study's"


def test_what_a_killed_run_did_not_send_comes_with_the_next(tmp_path: Path) -> None:
    """The journal holds more than MLflow was told, for a trial that goes on, one that ended and one without a run."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    untimed: list[dict[str, Any]] = [
        *({"event": "start", "trial": number, "config": {"lr": 0.1}} for number in (0, 1, 2)),
        *(
            {"event": "report", "trial": number, "metrics": {"epoch": epoch, "val_accuracy": epoch / 8}}
            for number in (0, 1, 2)
            for epoch in (1, 2)
        ),
        {"event": "end", "trial": 1, "outcome": "stopped", "reason": "weak"},
        {"event": "end", "trial": 2, "outcome": "completed", "reason": ""},
    ]
    events = [{"time": float(second), **event} for second, event in enumerate(untimed)]
    told = [event for event in events if event["trial"] == 0 or (event["trial"] == 1 and event["event"] != "end")]
    first = Tracker(spec(uri), "digits", {})
    for event in told[:-1]:
        first(event, replay(told))
    assert first.close("KILLED") == 0
    second = Tracker(spec(uri), "digits", {}, events)
    assert second.close("FINISHED") == 0
    client = MlflowClient(uri)
    runs = client.search_runs([second.experiment_id], "tags.kind = 'trial'")
    assert {run.data.tags["trial"]: run.info.status for run in runs} == {"0": "RUNNING", "1": "KILLED", "2": "FINISHED"}
    assert len(runs) == 3
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert [(metric.step, metric.value) for metric in history] == [(1, 0.125), (2, 0.25)]


def test_addresses(tmp_path: Path) -> None:
    check_tracking(f"sqlite:///{tmp_path / 'new.db'}")
    assert absolute_uri("sqlite:///mlflow.db") == f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    assert absolute_uri("http://host:5000") == "http://host:5000"
    (tmp_path / "text.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(ValueError, match="names a file that is no SQLite database"):
        check_tracking(f"sqlite:///{tmp_path / 'text.db'}")
    for bad in ("file:./mlruns", "./mlruns", "http://", "sqlite:///no/such/folder/x.db", f"sqlite:///{tmp_path}"):
        with pytest.raises(ValueError, match="tracking_uri"):
            check_tracking(bad)
