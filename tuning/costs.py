"""What an architecture costs to use: parameters, the time of one image, and the GPU memory of its training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from filelock import FileLock

from tuning.checkpoint import write_json
from tuning.storage import Storage
from tuning.training import Training

WARM_UP_SECONDS = 0.2
BLOCKS = 5  # the quietest counts: other trials on the same cores only ever add time
BLOCK_SECONDS = 0.1
REPEATS = 5  # a block at least, also of a network that takes longer
LATENCIES = "latency.json"  # in the study's folder: what each architecture took
TRAINING_ONLY = ("aux", "init", "dropout", "dropout2d", "drop_path")  # options without effect on a trained network


def architecture_costs(training: Training, names: tuple[str, ...], storage: Storage) -> dict[str, float]:
    """Those of `names` that are known before the training."""
    costs: dict[str, float] = {}
    if "parameters" in names:
        costs["parameters"] = sum(parameter.numel() for parameter in training.model.parameters())
    if "latency_ms" in names:
        costs["latency_ms"] = known_latency_ms(training, storage)
    if "gpu_memory_mb" in names:
        torch.cuda.reset_peak_memory_stats(training.device)
    return costs


def training_costs(training: Training, names: tuple[str, ...]) -> dict[str, float]:
    """Those of `names` that the training shows; they never fall from epoch to epoch."""
    if "gpu_memory_mb" not in names:
        return {}
    return {"gpu_memory_mb": training.gpu_memory / 2**20}


def known_latency_ms(training: Training, storage: Storage) -> float:
    """The latency of the architecture, measured by the first trial of the study that has it, while no other measures.

    Equal architectures must have equal latencies: else noise alone would make one of them better. Where machines share
    no folder, two of them may measure one at the same time.
    """
    path, key = storage.folder / LATENCIES, _key(training.hparams.model_options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{LATENCIES}.lock")):
        storage.fetch(LATENCIES)
        known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        if key not in known:
            known[key] = latency_ms(training)
            write_json(path, known)
            storage.send(LATENCIES)
    return known[key]


@torch.inference_mode()
def latency_ms(training: Training) -> float:
    """Median time from one raw image on the device to its logits, in the format of the study, after a warm-up.

    On a CPU the processor time a thread, which is the latency on idle cores: by the clock on the wall a network a tenth
    as wide took twice as long where other programs shared the cores.
    """
    model, device, format = training.model, training.device, training.format
    model.eval()
    image = torch.zeros((1, *training.splits.val.shape[1:]), dtype=torch.uint8, device=device)
    image = image.contiguous(memory_format=format.layout)

    def clock() -> float:
        return time.perf_counter() if device.type == "cuda" else time.process_time() / torch.get_num_threads()

    def once() -> float:
        start = clock()
        with format.autocast(device):
            model(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    _repeat(once, WARM_UP_SECONDS, 3)
    return 1000 * min(median(_repeat(once, BLOCK_SECONDS, REPEATS)) for _ in range(BLOCKS))


def _repeat(once: Callable[[], float], seconds: float, least: int) -> list[float]:
    durations: list[float] = []
    while len(durations) < least or sum(durations) < seconds:
        durations.append(once())
    return durations


def _key(options: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in sorted(options.items()) if name not in TRAINING_ONLY})
