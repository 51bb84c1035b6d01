"""What every study does around its trials: one driver at a time, a journal, MLflow, and a clock of its phases."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tuning.budget import Meter
from tuning.errors import DamagedStudy, EveryTrialFailed, Interrupted, Locked
from tuning.journal import DamagedJournal, Journal, read
from tuning.record import Observer, StudyLog, replay
from tuning.spec import StudySpec
from tuning.tracking import Tracker


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
    folder: Path, spec: StudySpec, dataset: str, params: Mapping[str, Any], observers: Sequence[Observer]
) -> Iterator[tuple[Tracker, StudyLog]]:
    """MLflow and the log of a study, what an earlier run left in its journal included; closed in order if all fails.

    Raises:
        Locked: another process runs the study.
        DamagedStudy: its journal cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "journal.jsonl"
    try:
        with FileLock(folder / ".lock", timeout=0):
            events, meter = read(path)[0], Meter()
            for event in events:
                meter.observe(event)
            journal = Journal(path)
            tracker = Tracker(spec, dataset, params)
            try:
                yield tracker, StudyLog(journal, replay(events), meter, [tracker, *observers])
            except BaseException as error:
                tracker.close("KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED")
                raise
            finally:
                journal.close()
                shutil.rmtree(folder / ".ray", ignore_errors=True)
    except Timeout:
        raise Locked(f"the study {spec.name!r} is being run by another process; wait for it or end it") from None
    except DamagedJournal as error:
        raise DamagedStudy(str(error)) from error


def check_any_trained(log: StudyLog, folder: Path) -> None:
    """Raises `EveryTrialFailed` if no trial finished an epoch."""
    if not any(record.epochs for record in log.records.values()):
        reasons = sorted({record.reason for record in log.records.values()})
        raise EveryTrialFailed(f"no trial finished an epoch: {'; '.join(reasons)}; see {folder / 'log.txt'}")
