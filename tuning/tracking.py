"""MLflow: a run per study, a nested run per trial, sent in batches by a thread of its own."""

from __future__ import annotations

import getpass
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuning.addresses import absolute_uri, database_path
from tuning.journal import Event
from tuning.record import Records, TrialRecord, replay
from tuning.spec import METRIC, MODEL, StudySpec
from tuning.study_file import git_commit
from tuning.trial import trial_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_SECONDS = 1.0
LAST_TRIES = 3
BATCH = 900  # MLflow takes 1,000 metrics a call
MAX_RUNS = 50_000  # that it gives in one
STATUS = {
    "completed": "FINISHED",
    "stopped": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass
class _Pending:
    """What MLflow does not know yet of one trial."""

    config: Mapping[str, Any]
    label: str
    started: float
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)  # key, value, milliseconds, step
    tags: dict[str, str] = field(default_factory=dict)
    status: tuple[str, int] | None = None  # and since when, in milliseconds


class Tracker:
    """Observes a study's events and keeps MLflow up to date; a server that fails delays no trial.

    `events` are those of earlier runs of the study, of which MLflow may lack the last if one of them was killed.
    """

    def __init__(self, spec: StudySpec, dataset: str, params: Mapping[str, Any], events: Sequence[Event] = ()) -> None:
        self.spec, self.dataset, self.params, self.events = spec, dataset, dict(params), events
        self.uri = absolute_uri(spec.tracking_uri)
        self.experiment_id = self.parent_id = ""
        self._pending: dict[int, _Pending] = {}
        self._runs: dict[int, str] = {}
        self._described: set[int] = set()  # trials whose parameters have been sent
        self._lock, self._wake, self._opened = threading.Lock(), threading.Event(), threading.Event()
        self._closing = False
        self._error: BaseException | None = None  # what ended the thread early
        self._thread = threading.Thread(target=self._loop, name="mlflow", daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Waits until the study's run exists.

        Raises:
            ConnectionError: it could not be made.
        """
        self._opened.wait()
        self._raise()

    def __call__(self, event: Event, records: Records) -> None:
        if "trial" not in event:
            return
        record, at = records[event["trial"]], round(event["time"] * 1000)
        with self._lock:
            pending = self._pending.setdefault(
                record.number, _Pending(record.config, _short(record.label), record.started)
            )
            if event["event"] == "start":
                pending.status = "RUNNING", at
            elif event["event"] == "report":
                metrics = event["metrics"]
                pending.metrics += [(k, float(v), at, metrics["epoch"]) for k, v in metrics.items() if k != "epoch"]
            elif event["event"] == "end":
                pending.tags |= {"outcome": event["outcome"], "reason": event["reason"]}
                pending.metrics += _summary(record, at)
                pending.status = STATUS[event["outcome"]], at
            elif event["event"] == "test":
                pending.metrics.append(("test_accuracy", event["accuracy"], at, 0))
            elif event["event"] == "front":
                pending.tags["pareto"] = str(event["pareto"]).lower()

    def close(self, status: str, note: str = "", files: Sequence[Path] = ()) -> int:
        """Ends the study's run, with `files` on it; gives how many runs MLflow could not be told everything about."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._raise()
        from mlflow.exceptions import MlflowException  # two threads must not import MLflow at the same time

        try:
            client = _client(self.uri)
            self._send(client, self.parent_id, [], {"mlflow.note.content": note})
            for file in files:
                client.log_artifact(self.parent_id, str(file))
            client.set_terminated(self.parent_id, status)
        except (MlflowException, OSError) as error:
            print(f"MLflow: {_one_line(error)}; giving up")  # goes to the study's log file
            return len(self._pending) + 1
        return len(self._pending)

    def _raise(self) -> None:
        """Brings what ended the thread to the thread that waits for it."""
        from mlflow.exceptions import MlflowException

        if isinstance(self._error, MlflowException | OSError):
            raise ConnectionError(f"MLflow at {self.uri} failed: {_one_line(self._error)}") from self._error
        if self._error:
            raise self._error

    def _loop(self) -> None:
        try:
            client = _client(self.uri)
            self._open(client)
            self._opened.set()
            self._flush_until_closed(client)
        except BaseException as error:
            self._error = error
        finally:
            self._opened.set()

    def _flush_until_closed(self, client: MlflowClient) -> None:
        from mlflow.exceptions import MlflowException

        tries = LAST_TRIES
        while tries and (self._pending or not self._closing):
            if not self._closing:
                self._wake.wait(FLUSH_SECONDS)
            try:
                self._flush(client)
            except (MlflowException, OSError) as error:
                print(f"MLflow: {_one_line(error)}; trying again")  # goes to the study's log file
                tries -= self._closing

    def _open(self, client: MlflowClient) -> None:
        name = self.dataset
        experiment = client.get_experiment_by_name(name)
        if experiment and experiment.lifecycle_stage != "active":
            raise OSError(f"the experiment {name!r} is deleted; restore it with `mlflow experiments restore`")
        self.experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(name, self._artifacts())
        )
        runs = client.search_runs([self.experiment_id], f"tags.study = '{self.spec.name}' and tags.kind = 'study'")
        if runs:
            self.parent_id = runs[0].info.run_id
            client.update_run(self.parent_id, status="RUNNING")
            filter = f"tags.mlflow.parentRunId = '{self.parent_id}'"
            trials = client.search_runs([self.experiment_id], filter, max_results=MAX_RUNS)
            self._runs = {int(run.data.tags["trial"]): run.info.run_id for run in trials}
            self._catch_up({int(run.data.tags["trial"]): run.info.status for run in trials})
            return
        run = client.create_run(self.experiment_id, run_name=self.spec.name, tags=self._tags("study"))
        self.parent_id = run.info.run_id
        self._log_params(client, self.parent_id, self.params)

    def _catch_up(self, statuses: Mapping[int, str]) -> None:
        """Notes down again all of the trials that MLflow does not know to have ended as they did.

        A run gets its final status after all else, and MLflow keeps one of two equal values of a metric.
        """
        records = replay(self.events)
        for event in self.events:
            number = event.get("trial")
            if number is not None and STATUS.get(records[number].outcome) != statuses.get(number):
                self(event, records)

    def _artifacts(self) -> str | None:
        """Beside a local database; a server has its own place."""
        path = database_path(self.uri)
        return (path.parent / "mlartifacts").as_uri() if path else None

    def _tags(self, kind: str) -> dict[str, str]:
        spec = self.spec
        tags = {"kind": kind, "study": spec.name, "model": ", ".join(spec.architectures), "dataset": self.dataset}
        tags |= {"mlflow.user": getpass.getuser(), "mlflow.source.name": "tuning.launch", "mlflow.source.type": "LOCAL"}
        commit = git_commit()
        return tags | ({"mlflow.source.git.commit": commit} if commit else {})

    def _flush(self, client: MlflowClient) -> None:
        for number in sorted(self._pending):
            with self._lock:
                pending = self._pending[number]
                metrics, tags, status = list(pending.metrics), dict(pending.tags), pending.status
            run_id = self._runs.get(number) or self._create(client, number, pending)
            if number not in self._described:
                self._log_params(client, run_id, pending.config)
                self._described.add(number)
            self._send(client, run_id, metrics, tags)
            if status and status[0] == "RUNNING":
                client.update_run(run_id, status="RUNNING")
            elif status:
                client.set_terminated(run_id, *status)
            with self._lock:
                del pending.metrics[: len(metrics)]
                if pending.status == status and pending.tags == tags and not pending.metrics:
                    del self._pending[number]

    def _create(self, client: MlflowClient, number: int, pending: _Pending) -> str:
        name = f"{trial_name(number)} {pending.label}".strip()
        tags = self._tags("trial") | {"mlflow.parentRunId": self.parent_id, "trial": str(number)}
        tags |= {MODEL: str(pending.config[MODEL])} if MODEL in pending.config else {}
        run = client.create_run(self.experiment_id, start_time=round(pending.started * 1000), run_name=name, tags=tags)
        self._runs[number] = run.info.run_id
        return str(run.info.run_id)

    def _log_params(self, client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def _send(self, client: MlflowClient, run_id: str, metrics: list[Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, RunTag

        entities = [Metric(k, v, at, step) for k, v, at, step in metrics]
        for start in range(0, len(entities), BATCH):
            client.log_batch(run_id, metrics=entities[start : start + BATCH])
        if tags:
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _client(uri: str) -> MlflowClient:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _summary(record: TrialRecord, at: int) -> list[tuple[str, float, int, int]]:
    best = record.best
    if best is None:
        return []
    # step 0 whatever the epoch: MLflow draws a bar for a metric with a single first step, else a lone dot
    return [(f"best_{METRIC}", float(best[METRIC]), at, 0), ("best_epoch", float(best["epoch"]), at, 0)]


def _short(label: str) -> str:
    return label.replace("published recipe", "recipe")  # MLflow cuts long names off


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
