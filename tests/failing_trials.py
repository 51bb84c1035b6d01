"""`python -m tests.failing_trials FOLDER`: trials on nodes of one CPU whose attempts end as planned."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cluster.session import apply_settings

PLANS = {  # how the attempts of each trial end; the one after them trains
    0: ("machine", "machine", "machine"),
    1: ("worker", "worker"),
    2: ("error", "shutdown", "machine"),
    3: ("error", "error"),
}
LOST = sum(end in ("machine", "shutdown") for plan in PLANS.values() for end in plan)


def attempt(config: dict[str, Any], folder: Path) -> None:
    from ray import tune

    from tuning.training import METRICS

    number = config["number"]
    log = folder / f"attempts-{number}"
    with open(log, "a") as file:
        file.write(".")
    done = len(log.read_text()) - 1
    end = PLANS[number][done] if done < len(PLANS[number]) else "well"
    if end == "error":
        raise RuntimeError(f"attempt {done}")
    if end == "shutdown":  # of the machine's own
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)
    if end == "machine":  # without a word
        os.kill(os.getppid(), signal.SIGKILL)
    if end != "well":
        os.kill(os.getpid(), signal.SIGKILL)
    tune.report({"trial": number, "epoch": 1, "saved": False, **dict.fromkeys(METRICS, 0.5)})


def main(folder: Path) -> None:
    apply_settings()
    os.environ["RAY_AUTH_MODE"] = "disabled"  # loopback, for a minute
    import ray
    from ray import tune
    from ray.cluster_utils import Cluster

    from cluster.resources import Resources
    from cluster.session import session
    from tuning.budget import Meter
    from tuning.grid import GridSearcher
    from tuning.interrupt import Interrupt
    from tuning.journal import Journal
    from tuning.record import StudyLog
    from tuning.scheduler import make_scheduler
    from tuning.spec import METRIC, StudySpec
    from tuning.storage import Storage
    from tuning.trials import run_trials

    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    machines = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    )
    for _ in range(LOST + 1):
        machines.add_node(num_cpus=1, object_store_memory=80_000_000)
    try:
        spec = StudySpec(model="resnet20", name="x", trials=len(PLANS), epochs=1)
        storage = Storage(str(folder), "study")
        configs = {number: {"number": number} for number in PLANS}
        with session(machines.address) as cluster:
            run_trials(
                tune.with_parameters(attempt, folder=folder), GridSearcher(configs, metric=METRIC, mode="max"),
                make_scheduler(spec), spec=spec, log=StudyLog(Journal(folder / "journal.jsonl"), {}, Meter(), []),
                storage=storage, remove=storage.remove, cluster=cluster, trial=Resources(cpus=1), concurrent=1, keep=1,
                interrupt=Interrupt(),
            )  # fmt: skip
    finally:
        ray.shutdown()
        machines.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
