"""The append-only record of a study, one checksummed JSON line per event: the truth about what happened."""

from __future__ import annotations

import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

Event = dict[str, Any]

# Losing one of these would lose work, or do it twice. A report needs no care of its own: the checkpoint that a trial
# goes on from comes after it, and a line on the disk has all lines before it there too.
DURABLE = {"search", "start", "checkpoint", "end", "budget", "changed", "test", "result", "done"}


class DamagedJournal(Exception):
    """A line other than the last is not what was written."""


class Journal:
    """Appends events to a file; each gets a sequence number, a time and a checksum."""

    def __init__(self, path: Path) -> None:
        events, intact = read(path)
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the study
        if self._file.tell() != intact:
            self._file.truncate(intact)  # a line torn by a crash
        self._next = len(events)

    def append(self, event: Event) -> Event:
        """The event as written."""
        event = {"seq": self._next, "time": round(time.time(), 3), **event}
        body = json.dumps(event, separators=(",", ":"), allow_nan=False)
        self._file.write(f"{_checksum(body)} {body}\n".encode())
        self._file.flush()
        if event["event"] in DURABLE:
            os.fsync(self._file.fileno())
        self._next += 1
        return event

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> tuple[list[Event], int]:
    """All events of a journal and the length of its intact part in bytes; a torn last line is left out.

    Raises:
        DamagedJournal: a line before the last is broken.
    """
    if not path.exists():
        return [], 0
    content = path.read_bytes()
    lines = content.split(b"\n")
    tail = lines.pop()  # empty if the last line is complete
    events: list[Event] = []
    for number, line in enumerate(lines):
        event = _parse(line)
        if event is None or event["seq"] != number:
            raise DamagedJournal(f"{path}, line {number + 1} is damaged; restore the file from a copy")
        events.append(event)
    return events, len(content) - len(tail)


def _parse(line: bytes) -> Event | None:
    checksum, _, body = line.decode(errors="replace").partition(" ")
    if checksum != _checksum(body):
        return None
    event: Event = json.loads(body)
    return event


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
