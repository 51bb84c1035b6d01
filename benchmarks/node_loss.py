"""What a study loses when its machines are killed, drained and frozen: `python -m benchmarks.node_loss`.

A cluster of a head and three nodes with a core each on this machine; while a study runs on it, one node gets SIGKILL,
one is drained like a spot machine with a minute's notice, and one freezes with all its processes (SIGSTOP) for a
minute. A new node takes the place of each, as an autoscaler would see to.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

from benchmarks.kill_resume import alive, descendants, mlflow_runs, start
from cluster.session import apply_settings
from cluster.spot_notice import drain
from tuning.journal import Event, read
from tuning.record import ENDED, replay

PIXELS = 32  # of images that have 8: an epoch takes seconds, a study minutes
EPOCHS, NAME, FREEZE_SECONDS, NOTICE_SECONDS = 6, "nodes", 60, 60
PATIENCE = 600.0  # seconds until something happens


def wait(until: Callable[[], Any], process: Popen[bytes]) -> Any:
    """What `until` gives, once it gives anything."""
    deadline = time.monotonic() + PATIENCE
    while not (found := until()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the study ended or stands still; make it longer, or see its screen.txt and log.txt")
        time.sleep(0.1)
    return found


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


def events_of(journal: Path) -> list[Event]:
    return read(journal)[0]


def recovery(events: list[Event], moment: float) -> tuple[list[float], int]:
    """Seconds from the moment until each trial that was started anew after it reported, and the epochs it repeated."""
    seconds, repeated = [], 0
    for place, restart in enumerate(events):
        number = restart.get("trial")
        own = [event for event in events[:place] if event.get("trial") == number]
        if restart["event"] != "start" or restart["time"] <= moment or not own:
            continue
        later = (e for e in events[place + 1 :] if e.get("trial") == number and e["event"] in ("report", "end"))
        seconds += [round(event["time"] - moment, 1) for event in later][:1]
        known = sum(event["event"] == "report" for event in own)
        saved = [event["epoch"] for event in own if event["event"] == "checkpoint"]
        repeated += max(known - max(saved, default=0), 0)
    return seconds, repeated


def study(folder: Path, trials: int, seed: int) -> dict[str, Any]:
    apply_settings()
    os.environ["RAY_AUTH_MODE"] = "disabled"  # loopback, for minutes
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    process = start(
        folder, "--model", "resnet20", "--trials", str(trials), "--epochs", str(EPOCHS), "--name", NAME,
        "--address", cluster.address, "--seed", str(seed), "--set", "precision=float32",
        "--set", "memory_format=contiguous", "--set", "scheduler=none", "--cpus-per-trial", "1",
        "--set", f"image_size={PIXELS}",
    )  # fmt: skip
    journal, told = folder / "results" / NAME / "journal.jsonl", dict[str, Any]()
    try:
        wait(lambda: journal.exists() and sum(e["event"] == "report" for e in events_of(journal)) >= 3, process)
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
            seconds, repeated = recovery(events_of(journal), moment)
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
    records, runs = replay(events_of(journal)), mlflow_runs(folder, NAME)
    ended = [record for record in records.values() if record.outcome in ENDED]
    outcomes = [record.outcome for record in records.values()]
    told["trials asked for, ended, failed"] = (trials, len(ended), outcomes.count("failed"))
    told["reports that are missing or twice"] = sum(
        [m["epoch"] for m in record.epochs] != list(range(1, len(record.epochs) + 1)) for record in ended
    )
    return {**told, "MLflow runs of trials": sum(runs.values()), "of them RUNNING": runs["RUNNING"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = study(Path(folder), options.trials, options.seed)
    print("\n".join(f"{name}: {json.dumps(value)}" for name, value in told.items()))


if __name__ == "__main__":
    main()
