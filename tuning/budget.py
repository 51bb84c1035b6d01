"""How much of its budget a study has used: epochs, search time and GPU-hours, added up from its journal's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuning.journal import Event
from tuning.spec import StudySpec

NAMES = {"epoch_budget": "the epoch budget", "time_budget": "the time budget", "gpu_hours": "the GPU-hours"}
WHILE_SEARCHING = (  # what comes after them takes no budget
    "start", "report", "checkpoint", "go_on", "moved", "again", "end", "budget",
)  # fmt: skip


@dataclass
class Meter:
    """Runs along with a study, and over the journals of its earlier runs; between two runs it stands still."""

    epochs: int = 0
    seconds: float = 0.0  # of searching
    trial_seconds: float = 0.0  # summed over the trials
    _running: set[int] = field(default_factory=set)
    _at: float | None = None  # the time up to which all is counted; None: no search is on

    def observe(self, event: Event) -> None:
        """Counts one event of the journal, in their order."""
        kind = event["event"]
        if kind == "search":  # what ran before was cut off, at a time that only its last event tells
            self._running.clear()
            self._at = event["time"]
        if kind not in WHILE_SEARCHING:
            return
        self.advance(event["time"])
        if kind == "start":
            self._running.add(event["trial"])
        elif kind == "report":
            self.epochs += 1
        elif kind == "end":
            self._running.discard(event["trial"])

    def advance(self, now: float) -> None:
        """Counts the time up to `now`, in seconds since the epoch; none where the clock was set back."""
        passed = max(now - self._at, 0.0) if self._at is not None else 0.0
        self.seconds += passed
        self.trial_seconds += passed * len(self._running)
        self._at = now


def reached(spec: StudySpec, meter: Meter, gpus: float) -> str | None:
    """The field of the first budget that is used up, trials holding `gpus` each; None while there is some of each."""
    used = {
        "epoch_budget": meter.epochs,
        "time_budget": meter.seconds,
        "gpu_hours": meter.trial_seconds * gpus / 3600,
    }
    for name, value in used.items():
        limit = getattr(spec, name)
        if limit is not None and value >= limit:
            return name
    return None
