"""How many copies of the images several trials hold in memory, and how long a second trial waits for its first batch.

    python -m benchmarks.memory [--processes 1,2,4] [--dataset fashion_mnist] [--data-dir FOLDER]

Each process is an actor of a private Ray that takes a study's `TrialSetup` from Ray's object store, as a trial does,
and goes through an epoch of batches. Its data is its share (PSS) of the mapped store, and by how much its own memory
and its share of Ray's object store grew since before it had the setup. The process that loaded the data counts too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.shared import KINDS, held, short_errors
from cluster.session import session
from datasets import Splits, in_memory, store
from tuning.classifier import Format
from tuning.loader import Loader
from tuning.prepare import load
from tuning.spec import StudySpec
from tuning.storage import Storage
from tuning.trial import TrialSetup

BATCH = 128
COPIES_GOAL, SECONDS_GOAL = 1.1, 0.5


def setup_of(spec: StudySpec, splits: Splits) -> TrialSetup:
    return TrialSetup(
        spec=spec, fixed={}, splits=splits, format=Format(), storage=Storage("unused", "study"), cpus=1.0, device="cpu"
    )


def epoch(splits: Splits) -> list[Loader]:
    """Goes through all batches once; gives what a trial would still hold."""
    train, val = (Loader(part, "cpu") for part in (splits.train, splits.val))
    steps = len(train) // BATCH
    order = torch.randperm(len(train))[: steps * BATCH].view(steps, BATCH)
    for _ in itertools.chain(train.batches(order), val.in_order(512)):
        pass
    return [train, val]


class Trial:
    """A worker's process that has run a trial on a few other images of the same size."""

    def __init__(self, spec: StudySpec, shape: tuple[int, ...], stores: str) -> None:
        some, grey = in_memory(np.zeros((1024, *shape), np.uint8), np.arange(1024) % 2), (0.5,) * shape[0]
        splits = Splits("some", train=some, val=some, classes=("0", "1"), mean=grey, std=grey, read_test=lambda: some)
        next(setup_of(spec, splits).training({"lr": 0.1, "batch_size": BATCH}, 0).run())
        epoch(splits)
        self.stores = stores

    def ready(self) -> None:  # when nothing of the small trial is alive any more
        self.before = held(self.stores)

    def epoch(self, boxed: list[Any]) -> None:
        self.setup = ray.get(boxed[0])  # as `tune.with_parameters` does when a trial starts
        self.loaders = epoch(self.setup.splits)

    def data(self) -> dict[str, int]:
        """Growth in bytes by kind, to be asked while all others are alive and have been through an epoch."""
        now = held(self.stores)
        return {kind: now[kind] - self.before[kind] for kind in KINDS}

    def first_batch(self, boxed: list[Any]) -> float:
        """Seconds from taking the setup to the first batch of a training, its network included."""
        start = time.perf_counter()
        loader = ray.get(boxed[0]).training({"lr": 0.1, "batch_size": BATCH}, 0).train_loader
        next(loader.batches(torch.randperm(len(loader))[None, :BATCH]))
        return time.perf_counter() - start


@contextmanager
def workers(count: int, setup: TrialSetup, stores: str) -> Iterator[tuple[list[Any], list[Any]]]:
    actor = ray.remote(num_cpus=0)(Trial)
    trials = [actor.remote(setup.spec, setup.splits.train.shape[1:], stores) for _ in range(count)]
    ray.get([trial.ready.remote() for trial in trials])
    yield trials, [ray.put(setup)]
    for trial in trials:
        ray.kill(trial)


def copies(count: int, setup: TrialSetup, stores: str) -> str:
    """A line of the table."""
    with workers(count, setup, stores) as (trials, boxed):
        ray.get([trial.epoch.remote(boxed) for trial in trials])
        total = Counter(store=held(stores)["store"])  # of this process
        for data in ray.get([trial.data.remote() for trial in trials]):
            total.update(data)  # adds; may be negative
    ratio = sum(total.values()) / int(np.prod(setup.splits.train.pixels.shape))
    parts = " | ".join(f"{total[kind] / 2**20:.2f}" for kind in KINDS)
    return f"| {count} | {parts} | {ratio:.3f} | {'met' if ratio <= COPIES_GOAL else 'MISSED'} |"


def wait(setup: TrialSetup, stores: str) -> float:
    """Of the second trial of a node, after the first one in another process."""
    with workers(2, setup, stores) as (trials, boxed):
        return [float(ray.get(trial.first_batch.remote(boxed))) for trial in trials][1]


def run(options: argparse.Namespace, counts: list[int]) -> None:
    spec = StudySpec(model="resnet20", dataset=options.dataset, data_dir=options.data_dir, name="memory")
    start = time.perf_counter()
    splits = load(spec)
    seconds, stores = time.perf_counter() - start, str(store.folder())
    if not isinstance(splits.train.pixels, np.ndarray):
        raise ValueError(f"{options.dataset} is too large for a store here; take a smaller set")
    setup, shape = setup_of(spec, splits), splits.train.pixels.shape
    print(f"{splits.name}: an array {shape} of {np.prod(shape) / 2**20:.1f} MiB, made and loaded in {seconds:.1f} s\n")
    with session("local"):
        print(f"| processes | {', MiB | '.join(KINDS)}, MiB | copies | at most {COPIES_GOAL} |\n{'| --- ' * 6}|")
        for count in counts:
            print(copies(count, setup, stores), flush=True)
        waits = [wait(setup, stores) for _ in range(options.rounds)]
    verdict = f"less than {SECONDS_GOAL} s: {'met' if median(waits) < SECONDS_GOAL else 'MISSED'}"
    print(f"\nsecond trial of a node: first batch after {median(waits):.3f} s, slowest {max(waits):.3f} s; {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="fashion_mnist", help="its name or path")
    parser.add_argument("--data-dir", default="/usr/share/datasets/fashion-mnist", help="where it lies")
    parser.add_argument("--processes", default="1,2,4", help="how many at once, one measurement each")
    parser.add_argument("--rounds", type=int, default=5, help="of the time to the first batch")
    options = parser.parse_args()
    counts = options.processes.split(",")
    with short_errors(), tempfile.TemporaryDirectory() as cache:
        if options.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {options.rounds}")
        if not all(count.isdigit() and 0 < int(count) <= 64 for count in counts):
            raise ValueError(f"--processes must be numbers from 1 to 64, such as 1,2,4, got {options.processes!r}")
        os.environ["XDG_CACHE_HOME"] = cache  # stores of its own, so that to make them is measured too
        run(options, [int(count) for count in counts])


if __name__ == "__main__":
    main()
