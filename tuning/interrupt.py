"""Ctrl-C and SIGTERM: the first ends a study in order, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Remembers which signal came; while Ray Tune runs, asks it to stop through the one signal that it catches."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.tuning = False
        self._caught = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        first, self.signum = self.signum is None, signum
        if first and self.tuning:
            os.kill(os.getpid(), signal.SIGUSR1)
        else:
            raise KeyboardInterrupt

    @contextmanager
    def catch(self) -> Iterator[None]:
        """Handles both signals in the main thread until the block ends."""
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self._caught = True
        self.claim()
        try:
            yield
        finally:
            self._caught = False
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def claim(self) -> None:
        """Takes the signals back from Ray, which sets a handler when it connects; outside of `catch`, nothing."""
        if self._caught:
            for signum in SIGNALS:
                signal.signal(signum, self.handle)
