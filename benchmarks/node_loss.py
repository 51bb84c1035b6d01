"""What a study loses when its machines are killed, drained and frozen: `python -m benchmarks.node_loss`.

A cluster of a head and three nodes with a core each on this machine; while a study runs on it, one node gets SIGKILL,
one is drained like a spot machine with a minute's notice, and one freezes with all its processes (SIGSTOP) for a
minute. A new node takes the place of each, as an autoscaler would see to.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.kill_resume import alive, descendants
from benchmarks.losses import PATIENCE, begin, events_of, outcome, recovery, reports, show, wait
from cluster.session import apply_settings
from cluster.spot_notice import drain

FREEZE_SECONDS, NOTICE_SECONDS = 60, 60


def busy(node: Any) -> bool:
    """Whether a worker on the node trains."""
    return any("ImplicitFunc" in command for command in alive(descendants(raylet(node))).values())


def raylet(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def kill(cluster: Any, node: Any) -> None:
    for pid in (raylet(node), *descendants(raylet(node))):
        os.kill(pid, signal.SIGKILL)


def notice(cluster: Any, node: Any) -> None:
    """Of the end; what runs there has that long to leave."""
    drain(cluster.address, node.node_id, "spot notice", time.time() + NOTICE_SECONDS)


def freeze(cluster: Any, node: Any) -> None:
    for pid in (raylet(node), *descendants(raylet(node))):
        os.kill(pid, signal.SIGSTOP)


def thaw(node: Any) -> None:
    for pid in (raylet(node), *descendants(raylet(node))):
        os.kill(pid, signal.SIGCONT)


def study(folder: Path, trials: int, seed: int) -> dict[str, Any]:
    apply_settings()
    os.environ["RAY_AUTH_MODE"] = "disabled"  # loopback, for minutes
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    process = begin(folder, cluster.address, trials, "--seed", str(seed), "--cpus-per-trial", "1")
    told: dict[str, Any] = {}
    try:
        wait(lambda: reports(events_of(folder)) >= 3, process)
        for act in (kill, notice, freeze):
            node = wait(lambda: next((node for node in nodes if busy(node)), None), process)
            nodes.remove(node)
            moment = time.time()
            act(cluster, node)
            nodes.append(cluster.add_node(num_cpus=1))
            time.sleep(FREEZE_SECONDS)
            if act is notice:
                kill(cluster, node)
            if act is freeze:
                thaw(node)
            seconds, repeated = recovery(events_of(folder), moment)
            told[act.__name__] = {
                "trials moved": len(seconds),
                "seconds to recover": seconds,
                "epochs repeated": repeated,
            }
        told["exit code"] = process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
        cluster.shutdown()
    return {**told, **outcome(folder, trials)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = study(Path(folder), options.trials, options.seed)
    show(told)


if __name__ == "__main__":
    main()
