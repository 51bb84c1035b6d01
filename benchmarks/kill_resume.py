"""What a study loses when its driver is killed again and again, and resumed each time.

    python -m benchmarks.kill_resume [KILLS [TRIALS [SEED]]]

Runs a study of 20 trials (resnet20, digits) whose driver, with all that it started, gets SIGKILL at 10 random moments.
After each kill it reads journal and checkpoints; at the end it prints what was lost and what was trained twice, and
compares the rungs that a resume rebuilds with the decisions in the journal.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tuning import checkpoint, study_file
from tuning.journal import Event, read
from tuning.record import Records, replay
from tuning.scheduler import Rungs, make_scheduler
from tuning.spec import METRIC, StudySpec
from tuning.storage import Storage
from tuning.trial import trial_name

ROOT = Path(__file__).parent.parent
EPOCHS, IMAGES = 9, 300
PATIENCE = 300.0  # seconds for a study to write another line, or for its processes to end
Loss = dict[str, int]


def descendants(pid: int) -> set[int]:
    """The processes that `pid` started, and those that they started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, todo = set[int](), [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found.update(new)
        todo += new
    return found


def alive(pids: set[int]) -> dict[int, str]:
    """Those that still run, with their commands; a process that ended and was not waited for does not."""
    commands = {}
    for pid in pids:
        try:
            commands[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {pid: command for pid, command in commands.items() if command}


def start(folder: Path, *arguments: str, inside: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A driver in `folder`; `inside` comes before its command."""
    command = [*inside, sys.executable, "-m", "tuning.launch", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(folder / "screen.txt", "ab") as screen:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=screen, stderr=screen, start_new_session=True
        )


def kill(process: subprocess.Popen[bytes]) -> tuple[float, list[str]]:
    """Kills the driver alone; the seconds until nothing trains any more, and what else had to be killed after that.

    Ray's agents look for their parent rarely and outlive it by up to a minute; they touch no study.
    """
    started = descendants(process.pid)
    process.kill()
    process.wait()
    began = time.monotonic()
    while any("Agent" not in command for command in alive(started).values()) and time.monotonic() - began < 30:
        time.sleep(0.1)
    seconds, left = time.monotonic() - began, alive(started)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return seconds, list(left.values())


def wait_for_lines(journal: Path, count: int, process: subprocess.Popen[bytes]) -> bool:
    """Until the journal has `count` lines; False if the study ended before."""
    deadline = time.monotonic() + PATIENCE
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"{journal} has not come to {count} lines within {PATIENCE:.0f} s")
        time.sleep(0.02)
    return True


def lost(folder: Path, records: Records) -> Loss:
    """What the kill that left `records` behind will have to be trained again."""
    again, running = 0, [record for record in records.values() if record.outcome == "running"]
    for record in running:
        path = folder / "trials" / trial_name(record.number) / "state.safetensors"
        saved = checkpoint.load(path)[1]["epoch"] if path.exists() else 0
        again += max(len(record.epochs) - saved, 0)
    return {"running trials": len(running), "whole epochs to repeat": again}


def rungs_agree(events: list[Event], spec: StudySpec) -> bool:
    """Whether rungs rebuilt as a resume does it rank every trial as the journal says it was ranked."""
    at_once, afterwards, said = make_scheduler(spec), make_scheduler(spec), True
    for event in events:
        if event["event"] == "report":
            metrics, number = event["metrics"], event["trial"]
            decision = at_once.decide(number, metrics["epoch"], metrics[METRIC])
            last = decision.reason if decision else ""
        elif event["event"] == "go_on" or event.get("outcome") == "stopped":
            said = said and event["reason"] == last
    for record in replay(events).values():
        for metrics in record.epochs:
            afterwards.replay(record.number, metrics["epoch"], metrics[METRIC])
    assert isinstance(at_once.rule, Rungs)
    assert isinstance(afterwards.rule, Rungs)
    return said and at_once.rule.scores == afterwards.rule.scores


def mlflow_runs(folder: Path, name: str) -> Counter[str]:
    """The status of each trial's run."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, f"tags.study = '{name}' and tags.kind = 'trial'")
    return Counter(run.info.status for run in runs)


def study(folder: Path, kills: int, trials: int, seed: int) -> Mapping[str, Any]:
    """Runs, kills and resumes one study; what it came to."""
    rng, name = random.Random(seed), "killed"
    results = folder / "results" / name
    arguments = ["--model", "resnet20", "--trials", str(trials), "--epochs", str(EPOCHS), "--name", name]
    arguments += ["--set", f"train_images={IMAGES}", "--set", "precision=float32", "--set", "memory_format=contiguous"]
    totals, endings, seen = Counter[str](), list[float](), dict[int, list[dict[str, Any]]]()
    changed, killed, reaped = 0, 0, Counter[str]()
    while killed < kills:
        process = start(folder, *arguments)
        arguments = ["--resume", name]
        lines = len(read(results / "journal.jsonl")[0]) + rng.randint(3, max(2 * 5 * trials // kills, 4))
        if not wait_for_lines(results / "journal.jsonl", lines, process):
            break
        time.sleep(rng.uniform(0, 0.5))
        seconds, more = kill(process)
        killed, endings = killed + 1, [*endings, seconds]
        reaped.update(command.split()[0] for command in more)
        records = replay(read(results / "journal.jsonl")[0])
        loss = lost(results, records)
        totals.update(loss)
        changed += sum(records[number].epochs[: len(epochs)] != epochs for number, epochs in seen.items())
        seen = {number: list(record.epochs) for number, record in records.items()}
        print(f"kill {killed}: {lines} lines, {loss}, training ended {seconds:.1f} s later", flush=True)
    process = start(folder, *arguments)
    process.wait(timeout=4 * PATIENCE)
    events = read(results / "journal.jsonl")[0]
    records, spec = replay(events), study_file.read(Storage(str(results.parent), results.name))[0]
    statuses = mlflow_runs(folder, name)
    return {
        "exit code of the last run": process.returncode,
        "kills": killed,
        "trials asked for, known, lost": (trials, len(records), len(set(seen) - set(records))),
        "trials by outcome": dict(Counter(record.outcome for record in records.values())),
        "trials whose known epochs changed": changed,
        "running trials when killed": totals["running trials"],
        "epochs under way when killed": totals["running trials"],
        "whole epochs trained again": totals["whole epochs to repeat"],
        "epochs in all": sum(len(record.epochs) for record in records.values()),
        "MLflow runs of trials": statuses.total(),
        "of them RUNNING": statuses["RUNNING"],
        "rungs as the journal says": rungs_agree(events, spec),
        "training ended after, s": f"{max(endings, default=0.0):.1f} at most",
        "other processes killed then": dict(reaped),
    }


def main() -> None:
    kills, trials, seed = (int(text) for text in (*sys.argv[1:], *("10", "20", "0")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        for name, value in study(Path(folder), kills, trials, seed).items():
            print(f"{name:<36} {value}")


if __name__ == "__main__":
    main()
