"""Where the time of a short study goes, and how fast the command line answers.

    python -m benchmarks.overhead [REPEATS]

Runs 12 trials of one epoch (resnet20, digits) REPEATS times and prints the median seconds of each part: start-up
(imports, Ray, MLflow, timing of formats), training (what the trials' own clocks say, divided by how many ran at once)
and everything else (worker start, Tune, checkpoints, finals, export).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
TRIALS = 12


def timed(*arguments: str, cwd: str) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "tuning.launch", *arguments]
    subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    return time.perf_counter() - start


def study(folder: str, name: str) -> dict[str, float]:
    """Seconds by part of one study."""
    began = time.time()
    arguments = ("--model", "resnet20", "--trials", str(TRIALS), "--epochs", "1", "--name", name)
    total = timed(*arguments, cwd=folder)
    lines = (Path(folder) / "results" / name / "journal.jsonl").read_text().splitlines()
    events = [json.loads(line.split(" ", 1)[1]) for line in lines]
    trained = sum(event["metrics"]["seconds"] for event in events if event["event"] == "report")
    first = next(event["time"] for event in events if event["event"] == "start")
    at_once = min(len(os.sched_getaffinity(0)), TRIALS)
    last = max(event["time"] for event in events if event["event"] == "end")
    parts = {"start-up, workers included": first - began, "training": trained / at_once, "after the last trial": 0.0}
    parts["after the last trial"] = began + total - last
    parts["between trials"] = last - first - parts["training"]
    return {"total": total, **parts}


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (("--help",), ("--model", "efficentnet_b0")):
            seconds = median(timed(*arguments, cwd=folder) for _ in range(2 * repeats + 1))
            print(f"{' '.join(arguments):<28} {seconds:6.2f} s")
        runs = [study(folder, f"run{index}") for index in range(repeats)]
    for part in runs[0]:
        print(f"{part:<28} {median(run[part] for run in runs):6.2f} s")


if __name__ == "__main__":
    main()
