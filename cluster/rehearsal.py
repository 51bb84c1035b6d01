"""`python -m cluster.rehearsal` runs a study on an autoscaling cluster of make-believe nodes, and shows it grow."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.session import apply_settings

WORKERS = 3  # besides the head, which runs no trials
TRIALS = 12
IDLE_MINUTES = 0.1
START_SECONDS, STUDY_SECONDS, SHRINK_SECONDS, STOP_SECONDS = 60.0, 900.0, 90.0, 30.0
LOOK_SECONDS = 0.5
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
UNUSED: dict[str, Any] = {  # that Ray's autoscaler wants to find all the same
    "auth": {}, "docker": {}, "file_mounts": {}, "initialization_commands": [], "setup_commands": [],
    "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
    "worker_start_ray_commands": [], "cluster_synced_files": [], "file_mounts_sync_continuously": False,
    "rsync_exclude": [], "rsync_filter": [],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The number of nodes at each time in seconds that it changed, and the exit code of the study."""

    timeline: tuple[tuple[float, int], ...]
    code: int

    @property
    def failure(self) -> str:
        """What did not go as it should, if anything."""
        counts = [count for _, count in self.timeline]
        if self.code:
            return f"the study ended with exit code {self.code}"
        if max(counts) != 1 + WORKERS:
            return f"the cluster reached {max(counts)} nodes, not {1 + WORKERS}"
        return "" if (counts[0], counts[-1]) == (1, 1) else f"the cluster went from {counts[0]} to {counts[-1]} nodes"


def main() -> int:
    """Rehearses in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        told = rehearse(Path(folder), print)
        if told.failure:
            print(f"error: {told.failure}", *_tails(Path(folder)), sep="\n", file=sys.stderr)
    if not told.failure:
        print(f"{TRIALS} trials: " + ", ".join(f"{count} at {at:.0f} s" for at, count in told.timeline) + " (nodes)")
    return 1 if told.failure else 0


def rehearse(folder: Path, say: Callable[[str], None]) -> Rehearsal:
    """Runs a study in `folder` on a cluster that is the head alone before and after; `say` gets a line per event."""
    apply_settings()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # Ray listens beyond loopback
    started = time.monotonic()
    timeline: list[tuple[float, int]] = []

    def look() -> int:
        count, at = _count(address), time.monotonic() - started
        if not timeline or count != timeline[-1][1]:
            timeline.append((at, count))
            say(f"[{at:6.1f} s] {'#' * count:<{WORKERS + 1}} {count} of at most {WORKERS + 1} nodes")
        return count

    with autoscaling_cluster(folder) as address:
        say(f"[{time.monotonic() - started:6.1f} s] an autoscaling cluster at {address}, its log in {folder}/ray.log")
        look()
        with _study(address, folder) as (process, lines):
            while process.poll() is None:
                look()
                for line in lines():
                    say(f"            {line}")
                if time.monotonic() - started > STUDY_SECONDS:
                    process.terminate()
                time.sleep(LOOK_SECONDS)
            for line in lines():
                say(f"            {line}")
        ended = time.monotonic()
        while look() > 1 and time.monotonic() - ended < SHRINK_SECONDS:
            time.sleep(LOOK_SECONDS)
    return Rehearsal(timeline=tuple(timeline), code=process.returncode)


@contextmanager
def autoscaling_cluster(folder: Path) -> Iterator[str]:
    """A head without CPUs, to which Ray's autoscaler adds nodes of one CPU, all on this machine; gives its address.

    Ray's own `AutoscalingCluster` ends every Ray of the machine with `ray stop`, and its template is not in the wheel.
    """
    import ray  # noqa: F401  puts psutil on the path
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

    address = f"127.0.0.1:{_free_port()}"
    path = folder / "autoscaler.json"
    path.write_text(json.dumps(_config(address, FAKE_HEAD_NODE_ID)))
    command = ["start", "--head", "--block", "--num-cpus=0", "--num-gpus=0", f"--port={address.rpartition(':')[2]}"]
    command += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=200000000"]
    command += [f"--autoscaling-config={path}", f"--temp-dir={folder / 'ray'}"]
    marks = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID, "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID}
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
    with open(folder / "ray.log", "w") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command],
            env={**os.environ, **marks, **fake}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _await(head, address, folder)
        yield address
    finally:
        _stop(head)


def _config(address: str, head_id: str) -> Mapping[str, Any]:
    worker = {"resources": {"CPU": 1, "object_store_memory": 100_000_000}, "node_config": {}}
    provider = {"type": "external", "module": PROVIDER, "use_node_id_as_ip": True, "disable_node_updaters": True,
                "disable_launch_config_check": True, "gcs_address": address, "launch_multiple": True,
                "head_node_id": head_id}  # fmt: skip
    return {
        **UNUSED,
        "cluster_name": "rehearsal",
        "provider": provider,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {**worker, "min_workers": 0, "max_workers": WORKERS},
        },
        "max_workers": WORKERS,
        "upscaling_speed": 100,
        "idle_timeout_minutes": IDLE_MINUTES,
    }


@contextmanager
def _study(address: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], list[str]]]]:
    """A study as its own process, and a function that gives the lines which it has printed since it was last asked."""
    fields = ("precision=float32", "memory_format=contiguous", "train_images=300", "sampler=random")
    command = ["--model", "resnet20", "--trials", str(TRIALS), "--epochs", "3", "--address", address]
    command += ["--name", "rehearsal", "--results-dir", str(folder / "results")]
    command += ["--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += [word for field in fields for word in ("--set", field)]
    path = folder / "study.log"
    with open(path, "w") as out, open(path) as back:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuning.launch", *command], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield process, lambda: back.read().splitlines()
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _count(address: str) -> int:
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(address)  # needs no driver in the cluster
    return len(status.active_nodes) + len(status.idle_nodes)


def _await(head: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    """Waits until the head and its autoscaler know of each other."""
    from ray.exceptions import RpcError

    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while head.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 1).close()
            if _count(address):
                return
        except (OSError, RpcError):
            pass
        time.sleep(LOOK_SECONDS)
    raise ConnectionError("\n".join(["the cluster did not start", *_tails(folder)]))


def _stop(head: subprocess.Popen[bytes]) -> None:
    """Ends the head, and the nodes that outlive it."""
    import psutil

    family = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    for process in psutil.wait_procs(family, timeout=3)[1]:
        process.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _tails(folder: Path) -> list[str]:
    logs = (folder / "ray.log", folder / "study.log", folder / "results" / "rehearsal" / "log.txt")
    return [f"--- {path.name}\n{path.read_text()[-2000:]}" for path in logs if path.exists()]


if __name__ == "__main__":
    sys.exit(main())
