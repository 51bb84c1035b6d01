"""Ctrl-C and SIGTERM: the first ends a study in order, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Remembers which signal came; while Ray Tune runs, asks it to stop through the one signal that it catches."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.tuning = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        first, self.signum = self.signum is None, signum
        if first and self.tuning:
            os.kill(os.getpid(), signal.SIGUSR1)
        else:
            raise KeyboardInterrupt


@contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Handles SIGINT and SIGTERM in the main thread."""
    interrupt = Interrupt()
    before = {signum: signal.signal(signum, interrupt.handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
