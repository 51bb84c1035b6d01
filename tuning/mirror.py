"""Keeps an object store in step with the copy of a study that its driver writes, and other drivers away from it."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections import deque

from tuning.errors import Locked
from tuning.journal import Event
from tuning.lock import described, refusal, this_process
from tuning.record import Records
from tuning.storage import JOURNAL, Storage

DRIVERS = ".drivers"  # folder of a study with a file for each that drives it, or tries to
LEASE = 60.0  # seconds after which a driver that does not say that it lives counts as dead
PAUSE, LONGEST_PAUSE = 5.0, 20.0  # seconds between two passes: what a machine that dies takes with it
PASS_SHARE = 0.05  # of the time, for passes; a large journal takes long to send
LAST_TRY = 60.0  # seconds for what is left when the study has ended


class Claim:
    """One driver's claim to a study in an object store; it lapses where it is not renewed.

    All times are those of the store, so that no two machines' clocks need to agree. Of two that claim at the same time
    both may withdraw, never both drive.

    Raises:
        Locked: on creation and renewal, another driver has it.
    """

    def __init__(self, storage: Storage, lease: float = LEASE) -> None:
        self.storage, self.lease, self.name = storage, lease, f"{DRIVERS}/{uuid.uuid4().hex}.json"
        self.holder = {**this_process(), "folder": str(storage.folder)}
        self.renewed = self._write()
        try:
            self._refuse_others(self.renewed)
        except Locked:
            self.release()
            raise

    def renew(self) -> None:
        """To be called more often than claims lapse."""
        last, self.renewed = self.renewed, self._write()
        if self.renewed - last > self.lease:  # another may have taken it; who comes only now sees this claim, and goes
            self._refuse_others(self.renewed)

    def release(self) -> None:
        self.storage.remove(self.name)

    def _write(self) -> float:
        return self.storage.write(self.name, json.dumps(self.holder).encode())

    def _refuse_others(self, now: float) -> None:
        for name, written in self.storage.listing(DRIVERS).items():
            path = f"{DRIVERS}/{name}"
            if path == self.name:
                continue
            try:
                other = json.loads(self.storage.read(path))
            except ValueError:  # it has gone meanwhile
                continue
            same_copy = (other["host"], other["folder"]) == (self.holder["host"], self.holder["folder"])
            if same_copy or now - written > self.lease:  # the lock of this copy is ours, so its last holder is dead
                self.storage.remove(path)
                continue
            told = refusal(self.storage.name, described(other))
            raise Locked(f"{told} (a dead one counts for {self.lease:g} s)")


class Mirror:
    """Sends what changes in `storage.folder`, in a thread of its own; an observer of the study's events.

    Raises:
        Locked: on creation or an event, another driver runs the study.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage, self.claim = storage, Claim(storage)
        if not storage.in_step():
            self.claim.release()
            raise Locked(f"the study {storage.name!r} has just been run elsewhere; start again to go on from there")
        self._sent: dict[str, tuple[int, int]] = {}
        self._rubbish: deque[str] = deque()
        self._lost: Locked | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def __call__(self, event: Event, records: Records) -> None:
        if self._lost:
            raise self._lost

    def remove(self, name: str) -> None:
        """Removes a file or folder of the study there, after the events that made it useless have come there."""
        self._rubbish.append(name)

    def close(self) -> None:
        """Sends the rest.

        Raises:
            ConnectionError: the store does not take it.
        """
        self._ended.set()
        self._thread.join()
        if self._lost:
            return
        deadline = time.monotonic() + LAST_TRY
        while True:
            try:
                self._pass()
                self.claim.release()
                return
            except (ConnectionError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise ConnectionError(
                        f"{error}; the end of the study is in {self.storage.folder} alone: "
                        f"--resume {self.storage.name} on this machine sends it"
                    ) from error
            time.sleep(PAUSE)

    def _run(self) -> None:
        pause = PAUSE
        while not self._ended.wait(pause):
            start = time.monotonic()
            try:
                self._pass()
            except (ConnectionError, ValueError) as error:  # gone or denied, perhaps for minutes
                print(f"{error}; tries again", file=sys.stderr)  # goes to the study's log file
            except Locked as error:
                self._lost = error
                return
            pause = min(max(PAUSE, (time.monotonic() - start) / PASS_SHARE), LONGEST_PAUSE)

    def _pass(self) -> None:
        self.claim.renew()
        useless = len(self._rubbish)  # of events that the journal holds by now
        for path in sorted(self.storage.folder.iterdir(), key=lambda path: path.name == JOURNAL):
            if path.name.startswith(".") or not path.is_file():
                continue
            known = path.stat()
            if self._sent.get(path.name) != (state := (known.st_size, known.st_mtime_ns)):
                self.storage.send(path.name)
                self._sent[path.name] = state
        for _ in range(useless):
            self.storage.remove(self._rubbish[0])
            self._rubbish.popleft()
