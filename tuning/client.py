"""A study through a Ray Client (`--address ray://HOST:PORT`): it runs on the cluster's head and shows itself here.

Ray Tune behind a Ray Client would take the search to the cluster and leave journal, MLflow and view here; so the whole
command line goes there, and only what it prints comes back.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import termios
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.session import JOB, client
from tuning.interrupt import SIGNALS
from tuning.jobs import FOLDER

CHUNK = 65536  # bytes
PATIENCE_SECONDS = 1.0  # of one look for new output, after which a signal is passed on


def run(address: str, arguments: Sequence[str]) -> int:
    """Runs `python -m tuning.launch` with these arguments on the head; gives its exit code.

    Raises:
        ValueError: the address is none of a Ray Client server.
        ConnectionError: nobody answers there, or not any more; the study then ends and can be resumed.
    """
    _quiet()
    with client(address):
        from ray.exceptions import RayActorError

        print(f"note: the study runs in ~/{FOLDER} of the cluster's head; its paths are relative to that", flush=True)
        driver = _driver(arguments)
        try:
            code = _follow(driver)
        except (RayActorError, ConnectionError) as error:
            said = str(error).partition("\n")[0].rstrip(".")
            raise ConnectionError(
                f"the study's command line on {address} was lost ({said}); go on with --resume NAME --address {address}"
            ) from error
    if code - 128 in SIGNALS:
        print(f"note: from here with --address {address}", file=sys.stderr)
    return code


def _quiet() -> None:
    """Lets Ray say nothing of what it uploads, nor of what its server on the head logs."""
    for name in ("ray.client_builder", "ray._private.runtime_env.packaging"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.util.client.logsclient").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", "Ray Client connection timed out")  # our own line says so


def _driver(arguments: Sequence[str]) -> Any:
    """The command line as an actor on the head, which lives as long as the connection."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.nodes import HEAD

    head = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"])
    size = shutil.get_terminal_size() if sys.stdout.isatty() else None
    # a thread each for reading and for signals
    placed = {"num_cpus": 0, "max_concurrency": 2, "scheduling_strategy": NodeAffinitySchedulingStrategy(head, False)}
    driver = ray.remote(Driver).options(**placed).remote(arguments, os.environ.get("TERM", ""), size)
    ray.get(driver.__ray_ready__.remote())
    return driver


def _follow(driver: Any) -> int:
    """Prints what the command line prints, passes signals on to it, and gives its exit code."""
    import ray

    with _remembered() as signals:
        while True:
            printed, code = ray.get(driver.read.remote())
            for stream, text in printed:
                out = sys.stdout if stream == 1 else sys.stderr
                out.buffer.write(text)
                out.flush()
            if code is not None:
                return int(code) if code >= 0 else 128 - int(code)
            while signals:
                ray.get(driver.send.remote(signals.pop(0)))


@contextmanager
def _remembered() -> Iterator[list[int]]:
    """The signals that have come and that nobody has taken from the list."""
    signals: list[int] = []
    before = {signum: signal.signal(signum, lambda signum, frame: signals.append(signum)) for signum in SIGNALS}
    try:
        yield signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class Driver:
    """The actor: a process of the command line, its output and its end."""

    def __init__(self, arguments: Sequence[str], terminal: str, size: os.terminal_size | None) -> None:
        import ray

        context = ray.get_runtime_context()
        folder = Path.home() / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # as Ray's job server does, so that its workers get the code that came with the client
        job = {JOB: json.dumps({"runtime_env": dict(context.runtime_env)}), "TERM": terminal}
        self._outputs = selectors.DefaultSelector()
        theirs = self._terminal(size) if size else self._pipes()
        command = [sys.executable, "-m", "tuning.launch", *arguments, "--address", context.gcs_address]
        stdin, stdout, stderr = theirs
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # which the process would inherit from this thread of Ray's
        self._process = subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=folder, env={**os.environ, **job}
        )
        for descriptor in set(theirs):
            os.close(descriptor)

    def _terminal(self, size: os.terminal_size) -> tuple[int, int, int]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))
        self._outputs.register(ours, selectors.EVENT_READ, 1)
        return theirs, theirs, theirs

    def _pipes(self) -> tuple[int, int, int]:
        theirs = []
        for stream in (1, 2):
            ours, other = os.pipe()
            self._outputs.register(ours, selectors.EVENT_READ, stream)
            theirs.append(other)
        return os.open(os.devnull, os.O_RDONLY), theirs[0], theirs[1]

    def read(self) -> tuple[list[tuple[int, bytes]], int | None]:
        """What was printed since, to which of both outputs; and the exit code, once it has ended and all is read."""
        code = self._process.poll()
        printed = []
        for key, _ in self._outputs.select(0 if code is not None else PATIENCE_SECONDS):
            try:
                text = os.read(key.fd, CHUNK)
            except OSError:  # how Linux says that nobody has the terminal open any more
                text = b""
            if text:
                printed.append((key.data, text))
            else:
                self._outputs.unregister(key.fd)
        return printed, code if not printed else None

    def send(self, signum: int) -> None:
        """Passes a signal on; one that comes too late is for nobody."""
        self._process.send_signal(signum)
