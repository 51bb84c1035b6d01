"""How good a search is for its budget, against its peers: `python -m benchmarks.search_quality` (`--help`).

A virtual clock drives the real searchers and schedulers over recorded or modelled learning curves, every epoch costs
the same. Regret: how far the best score so far lies below the task's best, as a share of the distance between the best
and the median of random configurations; 0 where a search does better than these.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import math
import multiprocessing
import os
import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks.tasks import SURROGATE, RecordedTask, SurrogateTask, Task, surrogate_codes

WORKERS = 4
MARKS = {"lcbench": (10, 20, 40), "recorded": (2, 5, 10)}  # full trainings; the table has no more to give
REFERENCE = "random + Ray's ASHA"
TOP = "one epoch, then the top half"
Run = dict[str, Any]


def replay(method: Any, task: Task, marks: Sequence[int]) -> list[float]:
    """The regret when the workers have trained as many epochs as so many full trainings have; the last goes on."""
    events: list[tuple[float, int, str]] = []  # when an epoch ends, in the order in which they were begun
    running: dict[str, tuple[Any, int]] = {}
    spent, best, begun, found = 0, -math.inf, 0, dict[int, float]()

    def begin(now: float, key: str) -> None:
        nonlocal begun
        begun += 1
        heapq.heappush(events, (now + 1, begun, key))

    def start(now: float) -> None:
        if (asked := method.ask()) and (curve := task.curve(asked[1])) is not None:
            running[asked[0]] = curve, 0
            begin(now, asked[0])

    for _ in range(WORKERS):
        start(0.0)
    while events and spent < max(marks) * task.epochs:
        now, _, key = heapq.heappop(events)
        curve, epoch = running.pop(key)
        score, spent = float(curve[epoch]), spent + 1
        best = max(best, score)
        found |= {mark: best for mark in marks if spent == mark * task.epochs}
        if method.tell(key, epoch + 1, score):
            running[key] = curve, epoch + 1
            begin(now, key)
        else:
            start(now)
    return [max((task.best - found.get(mark, best)) / (task.best - task.median), 0.0) for mark in marks]


def run(job: tuple[str, str, str, int, Path]) -> Run:
    """One method on one task with one seed."""
    from benchmarks.peers import METHODS, EpochThenTop

    data, name, task_name, seed, folder = job
    _quiet()
    random.seed(seed)
    np.random.seed(seed)  # what Ray and Syne Tune draw from

    def task() -> Task:
        if data == "recorded":
            return RecordedTask(seed % 2)
        return SurrogateTask(task_name, surrogate_codes("all", folder)[task_name], folder)

    start = time.process_time()
    if name == TOP:  # it has to know its budget
        regrets = [replay(EpochThenTop(task(), seed, mark), task(), [mark])[0] for mark in MARKS[data]]
    else:
        fresh = task()
        regrets = replay(METHODS[name](fresh, seed), fresh, MARKS[data])
    seconds = round(time.process_time() - start, 2)
    return {"method": name, "task": task_name, "seed": seed, "regrets": regrets, "seconds": seconds}


def table(runs: Sequence[Run], marks: Sequence[int]) -> list[str]:
    """Mean regret and its standard error over the seeds, the ratio to random + ASHA, tasks clearly worse than that."""
    titles = ["method", *(f"{mark} trainings" for mark in marks), "of random", "clearly worse on", "s a run"]
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    reference = _by_task(runs, REFERENCE)
    for name in dict.fromkeys(each["method"] for each in runs):
        own, cells, ratios = _by_task(runs, name), [], []
        for place in range(len(marks)):
            seeds = np.array([[regrets[place] for regrets in own[task].values()] for task in own]).mean(axis=0)
            error = seeds.std(ddof=1) / math.sqrt(len(seeds)) if len(seeds) > 1 else math.nan
            cells.append(f"{seeds.mean():.3f} +- {error:.3f}")
            if reference:
                ratios.append(f"{seeds.mean() / mean(r[place] for t in reference.values() for r in t.values()):.2f}")
        worse = [task for task in own if task in reference and _clearly_worse(own[task], reference[task])]
        seconds = mean(each["seconds"] for each in runs if each["method"] == name)
        cells += [" ".join(ratios), ", ".join(worse) or "none", f"{seconds:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _by_task(runs: Sequence[Run], name: str) -> dict[str, dict[int, list[float]]]:
    found: dict[str, dict[int, list[float]]] = {}
    for each in runs:
        if each["method"] == name:
            found.setdefault(each["task"], {})[each["seed"]] = each["regrets"]
    return found


def _clearly_worse(own: dict[int, list[float]], other: dict[int, list[float]]) -> bool:
    """Whether the mean at the last mark is larger by more than two standard errors of the difference."""
    a, b = [r[-1] for r in own.values()], [r[-1] for r in other.values()]
    if min(len(a), len(b)) < 2:
        return False
    error = math.sqrt(stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b))
    return mean(a) - mean(b) > 2 * error and mean(a) - mean(b) > 0.01


def _quiet() -> None:
    import optuna

    warnings.simplefilter("ignore")  # of the peers
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def main() -> None:
    from benchmarks.peers import METHODS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(MARKS), default="lcbench")
    parser.add_argument("--tasks", choices=("even", "odd"), default="even", help="of LCBench: odd ones chose nothing")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--methods", nargs="*", metavar="NAME", help=f"of: {', '.join((*METHODS, TOP))}")
    parser.add_argument("--surrogate", type=Path, default=SURROGATE, metavar="DIR", help="YAHPO's LCBench surrogate")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, metavar="FILE", help="every run as a JSON line; those there are kept")
    options = parser.parse_args()
    names = options.methods or [name for name in (*METHODS, TOP) if options.data == "recorded" or "recipe" not in name]
    tasks = ["digits"] if options.data == "recorded" else list(surrogate_codes(options.tasks, options.surrogate))
    wanted = [(name, task, seed) for name in names for seed in range(options.seeds) for task in tasks]
    lines = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    known = {(each["method"], each["task"], each["seed"]): each for each in map(json.loads, lines)}
    jobs = [(options.data, *job, options.surrogate) for job in wanted if job not in known]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done in pool.imap(run, jobs):
            known[done["method"], done["task"], done["seed"]] = done
            if options.out:
                with open(options.out, "a") as file:
                    file.write(json.dumps(done) + "\n")
    runs = [known[job] for job in wanted]
    print(f"\n{len(tasks)} tasks x {options.seeds} seeds, {WORKERS} workers; mean +- standard error over the seeds\n")
    print("\n".join(table(runs, MARKS[options.data])))


if __name__ == "__main__":
    main()
