"""One driver per study: a lock that the operating system releases when its holder dies, and who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tuning.errors import Locked

LOCK, HOLDER = ".lock", ".lock.json"
PATIENCE = 1.0  # seconds for a holder to write who it is, after it got the lock


@contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Holds the lock of a study's folder until the block ends.

    Raises:
        Locked: another process holds it; says which.
    """
    try:
        with FileLock(folder / LOCK, timeout=0):
            (folder / HOLDER).write_text(json.dumps(this_process()))
            try:
                yield
            finally:
                (folder / HOLDER).unlink(missing_ok=True)
    except Timeout:
        raise Locked(refusal(folder.name, _holder(folder))) from None


def this_process() -> dict[str, Any]:
    """What a process that holds a study tells of itself."""
    started = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def described(holder: Mapping[str, Any]) -> str:
    """`this_process` of another, in words."""
    return f"process {holder['pid']} on {holder['host']} since {holder['started']}"


def refusal(study: str, holder: str) -> str:
    """What a second driver of a study is told."""
    return f"the study {study!r} is being run by {holder}; wait for it or end it"


def _holder(folder: Path) -> str:
    """Who holds the lock, by the file that it writes next; a file that a killed holder left is waited out."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            known = json.loads((folder / HOLDER).read_text())
            if known["host"] != socket.gethostname() or _lives(known["pid"]):
                return described(known)
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.05)
    return "another process"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
