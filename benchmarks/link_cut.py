"""What a study loses when the link between hosts is cut for half a minute: `python -m benchmarks.link_cut`, as root.

Two network namespaces stand for the hosts, a pair of virtual cards for the link: head and driver on one, two cores to
train on at the other. They share a file system, as hosts with network storage do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.kill_resume import ROOT, alive, descendants
from benchmarks.losses import PATIENCE, begin, events_of, outcome, recovery, reports, show, wait

HEAD, WORKER = "tuning-head", "tuning-work"
ADDRESSES = {HEAD: "10.77.0.1", WORKER: "10.77.0.2"}
PORT, CUT_SECONDS, TRIALS = 6479, 30, 4


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def hosts() -> Iterator[None]:
    """Both, linked; gone afterwards."""
    for host in ADDRESSES:
        ip("netns", "add", host)
    try:
        ip("link", "add", "card", "netns", HEAD, "type", "veth", "peer", "name", "card", "netns", WORKER)
        for host, address in ADDRESSES.items():
            ip("-n", host, "addr", "add", f"{address}/24", "dev", "card")
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "set", "card", "up")
        yield
    finally:
        for host in ADDRESSES:
            ip("netns", "del", host)


def on(host: str) -> list[str]:
    """The prefix of a command that is to run on a host."""
    return ["ip", "netns", "exec", host]


@contextmanager
def ray_on(host: str, *arguments: str, inside: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A node of Ray on a host; `inside` comes before its command, where that is to be more than on the host's net."""
    command = [
        *(inside or on(host)),
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--disable-usage-stats",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--node-ip-address", ADDRESSES[host], *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        left = descendants(process.pid)
        process.terminate()
        process.wait()
        for pid in alive(left):
            os.kill(pid, 9)


def study(folder: Path) -> dict[str, Any]:
    """Runs one, cuts the link and heals it; what became of the study."""
    process = begin(folder, f"{ADDRESSES[HEAD]}:{PORT}", TRIALS, inside=on(HEAD))
    try:
        wait(lambda: reports(events_of(folder)) >= 4, process)
        cut = time.time()
        ip("-n", WORKER, "link", "set", "card", "down")
        time.sleep(CUT_SECONDS)
        ip("-n", WORKER, "link", "set", "card", "up")
        healed = time.time()
        wait(lambda: reports(events_of(folder), since=healed), process)
        first = next(e["time"] for e in events_of(folder) if e["event"] == "report" and e["time"] > healed)
        code = process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
    seconds, repeated = recovery(events_of(folder), cut)
    return {
        "exit code": code,
        "seconds from the healing to the next report": round(first - healed, 1),
        "trials started anew": len(seconds),
        "epochs repeated": repeated,
        **outcome(folder, TRIALS),
    }


def main() -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # nothing else is on this net
    with (
        tempfile.TemporaryDirectory() as folder,
        hosts(),
        ray_on(HEAD, "--head", "--port", str(PORT), "--num-cpus", "0", "--include-dashboard", "false"),
    ):
        time.sleep(10)  # until the head answers
        with ray_on(WORKER, "--address", f"{ADDRESSES[HEAD]}:{PORT}", "--num-cpus", "2"):
            time.sleep(10)
            told = study(Path(folder))
    show(told)


if __name__ == "__main__":
    main()
