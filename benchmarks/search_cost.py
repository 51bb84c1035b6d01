"""What a proposal, a report and the end of a trial cost the driver: `python -m benchmarks.search_cost`.

Milliseconds of the real searcher, scheduler, recorder and journal, without Ray and MLflow; medians, and the slowest in
brackets.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import search_spaces
from tuning.budget import Meter
from tuning.journal import Journal
from tuning.proposals import uniform
from tuning.record import StudyLog
from tuning.recorder import Recorder
from tuning.scheduler import RungScheduler, make_scheduler
from tuning.searcher import RungSearcher
from tuning.spec import METRIC, SAMPLERS, StudySpec
from tuning.storage import Storage
from tuning.training import METRICS
from tuning.trial import trial_name

SIZES = (100, 1_000, 10_000)
REPEATS = 20


class RayTrial:
    """What our callbacks ask of one of Ray's trials."""

    def __init__(self, number: int, config: dict[str, Any]) -> None:
        self.trial_id, self.config, self.number = str(number), config, number

    def __str__(self) -> str:
        return trial_name(self.number)


def driver(folder: Path, spec: StudySpec) -> tuple[RungSearcher, RungScheduler, Recorder]:
    space = search_spaces.for_model(spec.model)
    searcher = RungSearcher(
        space.distributions, metric=METRIC, mode="max", baseline=space.active(space.baseline),
        conditions=space.conditions, rungs=spec.rungs, seed=0, sampler=spec.sampler, goals=spec.goals,
    )  # fmt: skip
    scheduler = make_scheduler(spec)
    log = StudyLog(Journal(folder / "journal.jsonl"), {}, Meter(), [])
    return searcher, scheduler, Recorder(log, scheduler, Storage(str(folder), spec.name).remove, spec, keep=3)


def result(number: int, epoch: int, rng: random.Random) -> dict[str, Any]:
    values = {**dict.fromkeys(METRICS, 0.5), METRIC: rng.random(), "parameters": rng.randrange(10**7)}
    return {**values, "epoch": epoch, "trial": number, "saved": False}


def train(number: int, config: dict[str, Any], parts: Any, spec: StudySpec, rng: random.Random) -> list[float]:
    """One trial from its start to its end, as Ray's controller calls us; what each report took."""
    searcher, scheduler, recorder = parts
    trial, seconds = RayTrial(number, config), list[float]()
    recorder.on_trial_start(0, [], trial)
    for epoch in range(1, spec.epochs + 1):
        reported, start = result(number, epoch, rng), time.perf_counter()
        stops = scheduler.on_trial_result(None, trial, reported) == "STOP" or epoch == spec.epochs
        if not stops:
            searcher.on_trial_result(str(number), reported)
        recorder.on_trial_result(0, [], trial, reported)
        seconds.append(time.perf_counter() - start)
        if stops:
            searcher.on_trial_complete(str(number), reported)
            recorder.on_trial_complete(0, [], trial)
            break
    return seconds


def proposal(searcher: RungSearcher, number: int) -> dict[str, Any]:
    config = searcher.suggest(str(number))
    assert isinstance(config, dict), "only a grid ends"
    return config


def measure(size: int, spec: StudySpec, folder: Path) -> list[str]:
    """Cells of one row: the study is filled with random trials first."""
    parts, rng = driver(folder, spec), random.Random(0)
    searcher = parts[0]
    for number in range(size):
        searcher._queue = [uniform(searcher.cube, number)]  # no model until it is measured
        train(number, proposal(searcher, number), parts, spec, rng)
    proposals, reports, ends = list[float](), list[float](), list[float]()
    for number in range(size, size + REPEATS):
        searcher._queue = []
        asked = _timed(partial(proposal, searcher, number), proposals)
        *running, end = train(number, asked, parts, spec, rng)
        reports, ends = reports + running, [*ends, end]
    parts[2].log.journal.close()
    return [_cell(proposals), _cell(reports), _cell(ends)]


def _timed(call: Callable[[], Any], seconds: list[float]) -> Any:
    start = time.perf_counter()
    answer = call()
    seconds.append(time.perf_counter() - start)
    return answer


def _cell(seconds: Sequence[float]) -> str:
    return f"{1000 * median(seconds):.1f} ({1000 * max(seconds):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options = parser.parse_args()
    studies = [*(("val_accuracy", sampler) for sampler in SAMPLERS), ("val_accuracy,parameters", "gp")]
    titles = ["objectives", "sampler", "trials so far", "a proposal", "a report", "the report that ends a trial"]
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    for objectives, sampler in studies:
        for size in options.sizes:
            spec = StudySpec(
                model="resnet20", name="x", epochs=27, sampler=sampler, objectives=objectives, trials=100_000
            )
            with tempfile.TemporaryDirectory() as folder:
                cells = measure(size, spec, Path(folder))
            print(f"| {' | '.join([objectives, sampler, f'{size:,}', *cells])} |", flush=True)


if __name__ == "__main__":
    main()
