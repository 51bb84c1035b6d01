"""What is known of each trial, built from the events of a study's journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tuning.budget import Meter
from tuning.journal import Event, Journal
from tuning.spec import BASELINE, METRIC, MODEL

ENDED = ("completed", "stopped", "diverged", "failed")  # an interrupted trial can go on


@dataclass
class TrialRecord:
    """One trial: its configuration, the metrics of each epoch so far and how it ended."""

    number: int
    config: dict[str, Any]
    started: float  # seconds since the epoch
    outcome: str = "running"
    reason: str = ""
    recipe: bool = False  # whether it trains the published recipe of its architecture
    ended: float | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    test_accuracy: float | None = None
    audited_at: int | None = None  # the epoch at which it would have been stopped, had it not been let go on as a check
    pareto: bool = False  # on the front of several objectives when the study ended

    @property
    def complete(self) -> bool:
        return self.outcome == "completed"

    @property
    def label(self) -> str:
        """What sets the trial apart from others by more than its number."""
        if "level" in self.config:
            return f"{self.config['level']}, seed {self.config['replicate']}"
        return ", ".join([*([self.model] if self.model else []), *(["published recipe"] if self.recipe else [])])

    @property
    def model(self) -> str:
        """The architecture, where a study has several; else empty."""
        return str(self.config.get(MODEL, ""))

    @property
    def best(self) -> dict[str, Any] | None:
        """The metrics of the first epoch with the highest validation accuracy."""
        return max(self.epochs, key=lambda metrics: float(metrics[METRIC]), default=None)

    @property
    def score(self) -> float:
        """The highest validation accuracy; below every accuracy if there is none."""
        return float(self.best[METRIC]) if self.best else -1.0


Records = dict[int, TrialRecord]
Observer = Callable[[Event, Records], None]


def apply(records: Records, event: Event) -> None:
    """Changes `records` by one event."""
    kind = event["event"]
    if kind == "start":
        record = records.setdefault(event["trial"], TrialRecord(event["trial"], event["config"], event["time"]))
        record.recipe = event.get("recipe", record.number == BASELINE)
        record.outcome, record.ended = "running", None
    elif kind == "report":
        records[event["trial"]].epochs.append(event["metrics"])
    elif kind == "go_on" and event.get("audited"):
        record = records[event["trial"]]
        record.audited_at = len(record.epochs)
    elif kind == "end":
        record = records[event["trial"]]
        record.outcome, record.reason, record.ended = event["outcome"], event["reason"], event["time"]
    elif kind == "changed":  # what was fixed for all trials so far is so for them alone
        for record in records.values():
            record.config = {**event["fixed"], **record.config}
    elif kind == "test":
        records[event["trial"]].test_accuracy = event["accuracy"]
    elif kind == "front":
        records[event["trial"]].pareto = event["pareto"]


def replay(events: Iterable[Event]) -> Records:
    """The records after all of `events`."""
    records: Records = {}
    for event in events:
        apply(records, event)
    return records


def recipe_of(record: TrialRecord, records: Records) -> TrialRecord | None:
    """The trial of the published recipe of the same architecture; None before it was started."""
    return next((other for other in records.values() if other.recipe and other.model == record.model), None)


class StudyLog:
    """Writes each event to the journal, then into records and meter, then shows it to the observers."""

    def __init__(self, journal: Journal, records: Records, meter: Meter, observers: list[Observer]) -> None:
        self.journal, self.records, self.meter, self.observers = journal, records, meter, observers

    def emit(self, event: str, **fields: Any) -> None:
        written = self.journal.append({"event": event, **fields})
        apply(self.records, written)
        self.meter.observe(written)
        for observer in self.observers:
            observer(written, self.records)
