"""Choosing precision and memory format: a few real training steps of each are timed, the fastest is kept.

No rule fits: bfloat16 doubles ResNet-18's speed on a CPU with AMX, halves EfficientNet-B0's there, and is ten times
slower on a CPU without.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch

from tuning.training import Format, Training

STEPS = 4
GIVE_UP = 1.5  # a first step this many times slower than the best format's median ends the try


def candidates(precision: str, memory_format: str) -> list[Format]:
    """The formats that the spec leaves open, the plainest first."""
    precisions = ("float32", "bfloat16") if precision == "auto" else (precision,)
    layouts = ("contiguous", "channels_last") if memory_format == "auto" else (memory_format,)
    return [Format(precision=p, memory_format=m) for p, m in itertools.product(precisions, layouts)]


def fastest(make: Callable[[Format], Training], formats: Sequence[Format]) -> tuple[Format, Mapping[Format, float]]:
    """The fastest format, and the images/s of each; a single candidate is not timed."""
    if len(formats) == 1:
        return formats[0], {}
    speeds: dict[Format, float] = {}
    for format in formats:
        speeds[format] = _speed(make(format), max(speeds.values(), default=0.0))
    return max(formats, key=speeds.__getitem__), speeds


def _speed(training: Training, best: float) -> float:
    size = training.hparams.batch_size
    images = torch.tensor(training.splits.train.images[:size]).to(training.device)
    labels = torch.tensor(training.splits.train.labels[:size]).to(training.device)
    generator = torch.Generator().manual_seed(0)
    training.model.train()
    durations: list[float] = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        loss, _ = training.step(images, labels, generator)
        loss.item()  # waits for the device
        durations.append(time.perf_counter() - start)
        if len(durations) == 2 and size / durations[1] * GIVE_UP < best:
            break
    return size / median(durations[1:])  # the first step also pays for choosing kernels
