"""What every study does around its trials: one driver at a time, a journal, MLflow, and a clock of its phases."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuning import study_file
from tuning.budget import Meter
from tuning.errors import DamagedStudy, EveryTrialFailed, Interrupted
from tuning.journal import DamagedJournal, Event, Journal, read
from tuning.lock import only_driver
from tuning.mirror import Mirror
from tuning.prepare import Prepared
from tuning.record import ENDED, Observer, Records, StudyLog, replay
from tuning.spec import StudySpec
from tuning.storage import JOURNAL, Storage
from tuning.tracking import Tracker

Remove = Callable[[str], None]


class Phases:
    """A clock that attributes wall time to named phases, and tells of each when it begins."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self.tell = tell
        self._since, self._name = time.perf_counter(), ""

    def enter(self, name: str) -> None:
        """Begins a phase; an empty name ends the last."""
        now = time.perf_counter()
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
        self._since, self._name = now, name
        if name:
            self.tell(name)


@contextmanager
def recording(
    storage: Storage, spec: StudySpec, dataset: str, params: Mapping[str, Any], observers: Sequence[Observer]
) -> Iterator[tuple[Tracker, StudyLog, Remove]]:
    """MLflow and the log of a study, what an earlier run left in its journal included; closed in order if all fails.

    The last of the three removes files and folders of the study.

    Raises:
        Locked: another process runs the study.
        DamagedStudy: its journal cannot be read.
        ConnectionError: the object store of the study does not answer.
    """
    folder = storage.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    with only_driver(folder), _kept(storage) as (remove, keepers):
        events, meter = _read(path), Meter()
        for event in events:
            meter.observe(event)
        journal = Journal(path)
        tracker = Tracker(spec, dataset, params, events)
        try:
            yield tracker, StudyLog(journal, replay(events), meter, [tracker, *observers, *keepers]), remove
        except BaseException as error:
            tracker.close("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
            raise
        finally:
            journal.close()
            shutil.rmtree(folder / ".ray", ignore_errors=True)


@contextmanager
def _kept(storage: Storage) -> Iterator[tuple[Remove, Sequence[Observer]]]:
    """What removes files of the study, and observers; files kept elsewhere are sent there until the block ends."""
    if not storage.remote:
        yield storage.remove, ()
        return
    mirror = Mirror(storage)
    try:
        yield mirror.remove, (mirror,)
    finally:
        mirror.close()


def keep_changes(prepared: Prepared, log: StudyLog) -> None:
    """Writes down what a resumed study changes: first for its trials so far, so that a crash between costs nothing."""
    if prepared.changes:
        log.emit("changed", changes=list(prepared.changes.lines), fixed=dict(prepared.changes.fixed))
        study_file.change(prepared, prepared.changes.lines)


def finished(prepared: Prepared) -> tuple[Records, Event] | None:
    """What a study that has nothing left to do did, with the last event of its journal; None where there is more.

    Raises:
        DamagedStudy: its journal cannot be read.
    """
    events = _read(prepared.folder / JOURNAL)
    if prepared.changes or not events or events[-1]["event"] != "done":
        return None
    records = replay(events)
    ended = sum(record.outcome in ENDED for record in records.values())
    used_up = [event for event in events if event["event"] == "budget"][-1:]
    if ended < prepared.spec.trials and all(getattr(prepared.spec, e["name"]) > e["limit"] for e in used_up):
        return None
    if not prepared.storage.holds_all():
        with only_driver(prepared.folder), _kept(prepared.storage):
            pass  # what the last run could not send is sent
    return records, events[-1]


def check_any_trained(log: StudyLog, folder: Path) -> None:
    """Raises `EveryTrialFailed` if no trial finished an epoch."""
    if not any(record.epochs for record in log.records.values()):
        reasons = sorted({record.reason for record in log.records.values()})
        raise EveryTrialFailed(f"no trial finished an epoch: {'; '.join(reasons)}; see {folder / 'log.txt'}")


def _read(path: Path) -> list[Event]:
    try:
        return read(path)[0]
    except DamagedJournal as error:
        raise DamagedStudy(str(error)) from error
