"""`python -m cluster.spot_notice` takes this machine out of its Ray cluster in order when its cloud wants it back.

It waits for the cloud's notice or SIGTERM; then Ray starts nothing here any more, and trials move after their epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

LOOK_SECONDS, ANSWER_SECONDS = 2.0, 2.0
NOTICE_SECONDS = 25.0  # where nobody says when the machine ends: Google gives 30, of which some have passed
AWS = "http://169.254.169.254"
GOOGLE = "metadata.google.internal"

_open = build_opener(ProxyHandler({})).open  # the machine itself answers, no proxy does


def aws_notice(now: float) -> float | None:
    """When Amazon will take this machine, in seconds since the epoch; None if it has not said so."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", AWS).rstrip("/")
    token = _ask(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    try:
        told = _ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    return datetime.fromisoformat(json.loads(told)["time"]).timestamp()


def google_notice(now: float) -> float | None:
    """When Google will take this machine; None if it has not said so."""
    host = os.environ.get("GCE_METADATA_HOST", GOOGLE)
    told = _ask(f"http://{host}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return now + NOTICE_SECONDS if told == "TRUE" else None


SOURCES: Mapping[str, Callable[[float], float | None]] = {
    "aws": aws_notice,
    "gcp": google_notice,
    "now": lambda now: now + NOTICE_SECONDS,
}


@dataclass(frozen=True, kw_only=True)
class Raylet:
    """Ray's process on this machine; `cluster` is the address of its head."""

    pid: int
    node: str
    cluster: str


def raylet(cluster: str | None) -> Raylet | None:
    """That of a worker node on this machine; with an address, of that cluster."""
    import psutil

    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.info["name"] != "raylet" or not words or "--head" in words:  # no words: it has just ended
            continue
        flags = dict(word.split("=", 1) for word in words if "=" in word)
        if cluster in (None, flags["--gcs-address"]):
            return Raylet(pid=process.pid, node=flags["--node_id"], cluster=flags["--gcs-address"])
    return None


def drain(cluster: str, node: str, why: str, deadline: float) -> None:
    """Tells a cluster that a node will be taken away at that time.

    Raises:
        ConnectionError: it cannot be told, or will not hear of it.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2
    from ray.exceptions import RpcError

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    try:
        accepted, message = GcsClient(address=cluster).drain_node(node, reason, why, int(1000 * deadline))
    except RpcError as error:
        raise ConnectionError(f"the head at {cluster} does not answer: {error}") from error
    if not accepted:
        raise ConnectionError(f"the head at {cluster} does not drain {node}: {message}")


def leave(cluster: str | None, why: str, deadline: float) -> None:
    """Drains the node of this machine, and waits until it has ended for want of work or the machine does."""
    import ray  # noqa: F401  brings psutil along

    found = raylet(cluster)
    if found is None:
        print(f"{why}: no Ray node here", flush=True)
        return
    drain(found.cluster, found.node, why, deadline)
    print(f"{why}: node {found.node[:8]} is drained, {deadline - time.time():.0f} s are left", flush=True)
    while raylet(found.cluster) == found and time.time() < deadline:
        time.sleep(0.2)


def wait(source: str, ended: threading.Event) -> tuple[str, float]:
    """Until there is a notice or SIGTERM; what came, and when the machine ends."""
    failed = ""
    while not ended.is_set():
        try:
            deadline, said = SOURCES[source](time.time()), ""
        except (OSError, ValueError, KeyError) as error:
            deadline, said = None, f"the cloud does not answer as it should: {type(error).__name__} {error}"
        if deadline is not None:
            return "the machine will be taken away", deadline
        if said != failed:
            failed = said
            print(said or "the cloud answers again", flush=True)
        ended.wait(LOOK_SECONDS)
    return "SIGTERM", time.time() + NOTICE_SECONDS


def arguments(words: list[str]) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster.spot_notice", description=str(__doc__).partition("\n")[0])
    parser.add_argument("source", choices=SOURCES, help="whose notice to wait for; now leaves without one")
    parser.add_argument("--cluster", metavar="HOST:PORT", help="the head's, where nodes of several clusters run here")
    return parser.parse_args(words)


def main() -> int:
    """Ends when the node has left; 1 if it could not."""
    args = arguments(sys.argv[1:])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: ended.set())
    try:
        leave(args.cluster, *wait(args.source, ended))
    except ConnectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str:
    with _open(Request(url, headers=dict(headers), method=method), timeout=ANSWER_SECONDS) as answer:
        text: bytes = answer.read()
    return text.decode()


if __name__ == "__main__":
    sys.exit(main())
