"""One driver per study: a lock that the operating system releases when its holder dies, and who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
            started = time.strftime("%Y-%m-%d %H:%M:%S %z")
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
            (folder / HOLDER).write_text(json.dumps(holder))
            try:
                yield
            finally:
                (folder / HOLDER).unlink(missing_ok=True)
    except Timeout:
        raise Locked(f"the study {folder.name!r} is being run by {_holder(folder)}; wait for it or end it") from None


def _holder(folder: Path) -> str:
    """Who holds the lock, by the file that it writes next; a file that a killed holder left is waited out."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            known = json.loads((folder / HOLDER).read_text())
            if known["host"] != socket.gethostname() or _lives(known["pid"]):
                return f"process {known['pid']} on {known['host']} since {known['started']}"
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
