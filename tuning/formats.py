"""Choosing precision and memory format: a few real training steps of each are timed, the fastest is kept.

No rule fits: bfloat16 doubles ResNet-18's speed on a CPU with AMX, and halves EfficientNet-B0's there. Only where it is
emulated it need not be tried: a step is then ten to forty times slower.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from tuning.classifier import Format
from tuning.training import Training

STEPS = 4
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")  # what CPUs that multiply it call it; the last one is ARM's
HOPELESS = 3  # a format whose first step takes this many times longer than the best's is not tried further


def candidates(precision: str, memory_format: str, device: str) -> list[Format]:
    """The formats that the spec leaves open and the device of this process may be fast in, the plainest first."""
    known = ("float32", "bfloat16") if device != "cpu" or has_bfloat16(torch.cpu.get_capabilities()) else ("float32",)
    precisions = known if precision == "auto" else (precision,)
    layouts = ("contiguous", "channels_last") if memory_format == "auto" else (memory_format,)
    return [Format(precision=p, memory_format=m) for p, m in itertools.product(precisions, layouts)]


def has_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    """Whether a CPU with these `torch.cpu.get_capabilities()` multiplies bfloat16 itself."""
    return any(capabilities.get(name) for name in BFLOAT16)


def fastest(make: Callable[[Format], Training], formats: Sequence[Format]) -> tuple[Format, Mapping[Format, float]]:
    """The fastest format, and the images/s of each in batches of `size`."""
    speeds: dict[Format, float] = {}
    shortest = float("inf")
    for format in formats:
        training = make(format)
        durations = _time_steps(training, HOPELESS * shortest)
        speeds[format] = training.hparams.batch_size / median(durations[1:] or durations)
        shortest = min(shortest, durations[0])
    return max(formats, key=speeds.__getitem__), speeds


def _time_steps(training: Training, limit: float) -> list[float]:
    """Seconds of each step on the same batch; the first also pays for choosing kernels."""
    size = training.hparams.batch_size
    ((images, labels),) = training.train_loader.batches(torch.arange(size)[None])
    generator = torch.Generator().manual_seed(0)
    training.model.train()
    durations: list[float] = []
    while len(durations) < 1 + STEPS and (not durations or durations[0] < limit):
        start = time.perf_counter()
        loss, _ = training.step(images, labels, generator)
        loss.item()  # waits for the device
        durations.append(time.perf_counter() - start)
    return durations
