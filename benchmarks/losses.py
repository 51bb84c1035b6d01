"""What the benchmarks that take machines, links and disks from a study share: the study, and what became of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from benchmarks.kill_resume import mlflow_runs, start
from tuning.journal import Event, read
from tuning.record import ENDED, replay

PIXELS = 32  # of images that have 8: an epoch takes seconds, a study minutes
EPOCHS, NAME = 6, "losses"
PATIENCE = 900.0  # seconds until something happens


def begin(folder: Path, address: str, trials: int, *more: str, inside: Sequence[str] = ()) -> Popen[bytes]:
    """Starts the study on a cluster, with its files in the folder; no trial of it is stopped early."""
    return start(
        folder, "--model", "resnet20", "--trials", str(trials), "--epochs", str(EPOCHS), "--name", NAME,
        "--address", address, "--set", "precision=float32", "--set", "memory_format=contiguous",
        "--set", "scheduler=none", "--set", f"image_size={PIXELS}", *more, inside=inside,
    )  # fmt: skip


def wait(until: Callable[[], Any], process: Popen[bytes]) -> Any:
    """What `until` gives, once it gives anything."""
    deadline = time.monotonic() + PATIENCE
    while not (found := until()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the study ended or stands still; make it longer, or see its screen.txt and log.txt")
        time.sleep(0.1)
    return found


def events_of(folder: Path) -> list[Event]:
    """What the journal below the folder tells so far."""
    return [event for journal in folder.rglob(f"{NAME}/journal.jsonl") for event in read(journal)[0]]


def reports(events: Sequence[Event], since: float = 0.0) -> int:
    return sum(event["event"] == "report" and event["time"] > since for event in events)


def recovery(events: Sequence[Event], moment: float) -> tuple[list[float], int]:
    """Seconds from the moment until each trial that was started anew after it reported, and the epochs it repeated."""
    seconds, repeated = [], 0
    for place, restart in enumerate(events):
        number = restart.get("trial")
        own = [event for event in events[:place] if event.get("trial") == number]
        if restart["event"] != "start" or restart["time"] <= moment or not own:
            continue
        later = (e for e in events[place + 1 :] if e.get("trial") == number and e["event"] in ("report", "end"))
        seconds += [round(event["time"] - moment, 1) for event in later][:1]
        known = sum(event["event"] == "report" for event in own)
        saved = [event["epoch"] for event in own if event["event"] == "checkpoint"]
        repeated += max(known - max(saved, default=0), 0)
    return seconds, repeated


def outcome(folder: Path, trials: int) -> dict[str, Any]:
    """What became of the study's trials, in its journal and in MLflow."""
    records, runs = replay(events_of(folder)), mlflow_runs(folder, NAME)
    ended = [record for record in records.values() if record.outcome in ENDED]
    failed = sum(record.outcome == "failed" for record in ended)
    return {
        "trials asked for, ended, failed": (trials, len(ended), failed),
        "trials with a report missing or twice": sum(
            [m["epoch"] for m in record.epochs] != list(range(1, len(record.epochs) + 1)) for record in ended
        ),
        "MLflow runs of trials, of them RUNNING": (sum(runs.values()), runs["RUNNING"]),
    }


def show(told: Mapping[str, Any]) -> None:
    print("\n".join(f"{name}: {json.dumps(value)}" for name, value in told.items()))
