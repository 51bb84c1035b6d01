"""How much of a bare training step's speed our input pipeline keeps, and what torchvision in a DataLoader keeps.

    python -m benchmarks.input_pipeline [--rounds 5] [--case array|folder] [--steps N] [--size 224] [--device cuda]

Images/s of (a) steps on one batch that lies ready on the device, normalised; (b) our pipeline and steps, as an epoch
runs them; (c) the steps of (a) on what PIL transforms in a DataLoader give, with no and with two worker processes.
All use one thread besides those workers. They take turns; ratios are medians over the rounds. `array`: resnet20 on
5,000 images of 32 px in memory. `folder`: resnet18 on JPEGs of 500x375 px, and how soon our store of them pays off.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms as T

import models
from benchmarks.shared import Case, array_case, folder_case, short_errors
from tuning.classifier import Format
from tuning.formats import candidates, fastest
from tuning.spec import HParams
from tuning.training import Training
from tuning.trial import build_arguments

LEVELS: dict[str, tuple[dict[str, Any], float, bool]] = {  # ours, the goal of b / a, whether stock is heavy, too
    "crop_flip": ({"augmentation": "crop_flip"}, 0.95, False),
    "resized_crop_flip": ({"augmentation": "resized_crop_flip"}, 0.95, False),
    "heavy": ({"augmentation": "crop_flip", "policy": "trivial_augment", "erasing": 0.25}, 0.85, True),
}
STOCK_GOAL = 1.5  # of b / c, for the faster c
WORKERS = (0, 2)
COLUMNS = "| model | ours | a | b | c, 0 workers | c, 2 workers | b / a | goal | b / c0 | b / c2 | goal |"


def training(case: Case, device: str, augmentation: dict[str, Any], format: Format) -> Training:
    hparams = HParams(lr=0.001, batch_size=case.batch, **augmentation)
    network = models.build(case.model, **build_arguments(case.splits)).train()
    return Training(network, hparams, case.splits, epochs=1, seed=0, device=device, format=format)


def plain(made: Training, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Optimiser steps on normalised images."""
    right = torch.zeros((), device=made.device)
    for inputs, labels in batches:
        inputs = inputs.to(made.device, non_blocking=True).contiguous(memory_format=made.format.layout)
        labels = labels.to(made.device, non_blocking=True)
        with made.format.autocast(made.device):
            logits = made.model.network(inputs)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        made.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        made.optimizer.step()
        right += (logits.argmax(1) == labels).sum()
    right.item()  # waits for the device


def ours(made: Training, steps: int) -> None:
    """As `Training.run` goes through epochs, cut off after that many steps."""
    size, count, right = made.hparams.batch_size, len(made.train_loader), torch.zeros((), device=made.device)
    order = torch.cat([torch.randperm(count) for _ in range(1 + steps * size // count)])[: steps * size]
    generator = torch.Generator().manual_seed(0)
    for images, labels in made.train_loader.batches(order.view(steps, size)):
        right += made.step(images, labels, generator)[1]
    right.item()


def sides(case: Case, steps: int, device: str) -> dict[Any, Callable[[], None]]:
    """What is compared, by name, in the format that a study would choose."""
    format, _ = fastest(lambda format: training(case, device, {}, format), candidates("auto", "auto", device))
    bare, mean, std = training(case, device, {}, format), case.splits.mean, case.splits.std
    ((images, labels),) = bare.train_loader.batches(torch.arange(case.batch)[None])
    ready = bare.model.normalise(images).contiguous(memory_format=format.layout)
    named: dict[Any, Callable[[], None]] = {"a": lambda: plain(bare, itertools.repeat((ready, labels), steps))}
    for level in case.levels:
        named[level] = partial(ours, training(case, device, LEVELS[level][0], format), steps)
    for heavy, workers in itertools.product((False, True), WORKERS):
        policy, erasing = [T.TrivialAugmentWide()] * heavy, [T.RandomErasing(0.25)] * heavy
        moves = [case.crop, T.RandomHorizontalFlip(), *policy, T.ToTensor(), T.Normalize(mean, std), *erasing]
        data = case.stock(transform=T.Compose(moves))
        sampler = RandomSampler(data, num_samples=case.batch * steps)
        batches = partial(DataLoader, data, case.batch, sampler=sampler, pin_memory=device != "cpu")
        named[heavy, workers] = partial(plain, bare, batches(num_workers=workers, persistent_workers=workers > 0))
    return named


def measure(case: Case, steps: int, rounds: int, device: str) -> None:
    """Prints the rows of the table, and when the store pays off."""
    named = sides(case, steps, device)
    order = list(named)
    speeds: dict[Any, list[float]] = {name: [] for name in named}
    for turn in range(rounds + 1):  # the first starts workers and chooses kernels
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            start = time.perf_counter()
            named[name]()
            speeds[name] += [case.batch * steps / (time.perf_counter() - start)] * (turn > 0)
    print(COLUMNS, "| --- " * 11 + "|", sep="\n")
    for level in case.levels:
        _, goal, heavy = LEVELS[level]
        bare, kept, *stock = (speeds[name] for name in ("a", level, *((heavy, workers) for workers in WORKERS)))
        share, *gains = (median(b / other for b, other in zip(kept, column, strict=True)) for column in (bare, *stock))
        print(f"| {case.model} | {level} |", *(f"{median(column):,.1f} |" for column in (bare, kept, *stock)), end=" ")
        print(f"{share:.3f} | {said(share, goal)} |", *(f"{gain:.2f} |" for gain in gains), end=" ")
        print(f"{said(min(gains), STOCK_GOAL)} |", flush=True)
    for workers in WORKERS if case.store_seconds else ():
        saved = 1 / median(speeds[False, workers]) - 1 / median(speeds["resized_crop_flip"])
        epochs = f"after {case.store_seconds / saved:.2f} epochs" if saved > 0 else "never, it saves no time"
        print(f"\nthe store pays off against a stock loader with {workers} workers: {epochs}")


def said(value: float, goal: float) -> str:
    return f"{goal}: {'met' if value >= goal else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=("array", "folder"), help="one of them instead of both")
    parser.add_argument("--rounds", type=int, default=5, help="in which each side has a turn")
    parser.add_argument("--steps", type=int, default=0, help="of a turn; 0: 20 of array, 4 of folder")
    parser.add_argument("--images", type=int, default=400, help="JPEGs in the folder")
    parser.add_argument("--size", type=int, default=224, help="side of the folder's images in training")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that trains")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with short_errors(), tempfile.TemporaryDirectory() as folder:
        for name, least in {"rounds": 1, "steps": 0, "images": 40, "size": 32}.items():
            if getattr(options, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(options, name)}")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda, but torch finds no GPU here; take --device cpu")
        os.environ["XDG_CACHE_HOME"] = folder  # where stores lie
        if options.case != "folder":
            measure(array_case(), options.steps or 20, options.rounds, options.device)
        if options.case != "array":
            photographs = folder_case(Path(folder, "photographs"), options.images, options.size)
            measure(photographs, options.steps or 4, options.rounds, options.device)


if __name__ == "__main__":
    main()
