"""How many trials share a GPU: a probe trains more and more at once, until they slow each other down in sum."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError

from cluster.resources import Resources
from tuning.errors import NoResources
from tuning.training import OutOfMemory
from tuning.trial import TrialSetup

SECONDS = 5.0  # of training, of all at once
GAIN = 1.1  # what twice as many have to bring, in images/s of all together: fewer trials end sooner
RESERVE = 0.9  # of the memory; the rest is for other batches, and for what else is on the GPU
CONTEXT = 600 * 2**20  # bytes of a process's CUDA context, which PyTorch does not count


@dataclass(frozen=True, kw_only=True)
class Probe:
    """So many trials at once on a GPU; `images_per_second` of all together, `memory` of each in bytes."""

    trials: int
    images_per_second: float
    memory: int
    whole: bool = True  # whether their batches fitted as they are
    total: int = 0  # bytes of the GPU


def share_gpu(
    setup: TrialSetup, config: Mapping[str, Any], node: Resources, cpus: float
) -> tuple[Resources, list[Probe]]:
    """What each trial gets of a node where as many share a GPU as do well together, at least `cpus`; and the probes.

    Raises:
        NoResources: not even one trial fits.
    """
    probes: list[Probe] = []
    most = max(int(node.cpus / node.gpus / cpus), 1)
    while count := next_to_try(probes, most):
        try:
            probes.append(probe(setup, config, count, cpus))
        except NoResources:
            if not probes:
                raise
            break
    trials = best(probes).trials
    return Resources(cpus=max(cpus, float(int(node.cpus / node.gpus / trials))), gpus=1 / trials), probes


def next_to_try(probes: Sequence[Probe], most: int) -> int | None:
    """How many trials to probe next on a GPU that has cores for `most`; None when enough is known."""
    if not probes:
        return 1
    last = probes[-1]
    pays = len(probes) < 2 or last.images_per_second >= GAIN * probes[-2].images_per_second
    twice = 2 * last.trials
    fits = last.whole and twice * last.memory <= RESERVE * last.total
    return twice if pays and fits and twice <= most else None


def best(probes: Sequence[Probe]) -> Probe:
    """The fewest trials that are within `GAIN` of the fastest in sum; batches that had to be split do not count."""
    whole = [probe for probe in probes if probe.whole] or list(probes[:1])
    top = max(probe.images_per_second for probe in whole)
    return next(probe for probe in whole if GAIN * probe.images_per_second > top)


def probe(setup: TrialSetup, config: Mapping[str, Any], trials: int, cpus: float) -> Probe:
    """Trains `config` in so many processes at once, each with `cpus` and an equal share of one GPU, if there is any.

    Raises:
        NoResources: they do not fit.
    """
    gpus = 1 / trials if setup.device == "cuda" else 0
    gate = ray.remote(Gate).options(num_cpus=0).remote(trials)
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1)(_train)  # their processes give all memory back
    shared = ray.put(setup.limited(Resources(cpus=cpus, gpus=gpus)))
    try:
        told = answers([task.remote(shared, dict(config), gate) for _ in range(trials)], setup.spec.model)
    finally:
        ray.kill(gate)
    speeds, memories, totals, whole = zip(*told, strict=True)
    return Probe(
        trials=trials, images_per_second=sum(speeds), memory=max(memories), whole=all(whole), total=min(totals)
    )


def answers(tasks: Sequence[Any], model: str) -> list[Any]:
    """What the tasks give.

    Raises:
        NoResources: one of them has no memory for the architecture.
    """
    try:
        told: list[Any] = ray.get(list(tasks))
    except RayTaskError as error:
        if not isinstance(error.cause, OutOfMemory | torch.OutOfMemoryError):
            raise
        fit = "not even one trial fits" if len(tasks) == 1 else f"{len(tasks)} trials do not fit"
        why = str(error.cause).partition("\n")[0]
        raise NoResources(f"{fit} into a GPU with {model}: {why}; choose smaller images or architectures") from error
    return told


class Gate:
    """Opens when so many have come."""

    def __init__(self, expected: int) -> None:
        self.missing = expected

    def arrive(self) -> None:
        self.missing -= 1

    def is_open(self) -> bool:
        return self.missing <= 0


def _train(setup: TrialSetup, config: dict[str, Any], gate: Any) -> tuple[float, int, int, bool]:
    """Of one of several at once: images/s, bytes taken of the GPU and those that it has, whether batches fitted."""
    training = setup.training(config, setup.spec.seed)
    size, device = training.hparams.batch_size, training.device
    ((images, labels),) = training.train_loader.batches(torch.arange(size)[None])
    generator = torch.Generator().manual_seed(0)
    training.model.train()
    for _ in range(2):  # chooses kernels, takes its memory
        training.step(images, labels, generator)[0].item()
    ray.get(gate.arrive.remote())
    while not ray.get(gate.is_open.remote()):
        time.sleep(0.02)
    start, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < SECONDS:
        training.step(images, labels, generator)[0].item()
        steps += 1
    taken, total = 0, 0
    if device.type == "cuda":
        taken, total = torch.cuda.max_memory_reserved(device) + CONTEXT, torch.cuda.mem_get_info(device)[1]
    return steps * size / passed, taken, total, training.micro_batch == size
