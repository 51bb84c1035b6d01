"""Whether our training learns as well as a plain PyTorch loop: that speed is not bought with a bug.

    python -m benchmarks.plain_loop [--train-images 6000] [--epochs 6] [--seeds 3] [--heavy]

Both train the same network from the same first weights on the same images of Fashion-MNIST, with the same optimiser,
schedule, number of steps and kinds of augmentation. The plain one is written here with torchvision's PIL transforms
and a DataLoader, and shares with ours the decoded images, the architecture and nothing else. They take turns, one
thread each. Each scores its own network; that of ours is scored in the plain way too.
"""

from __future__ import annotations

import argparse
import math
import time
from statistics import fmean, stdev

import torch
from scipy.stats import ttest_ind
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

import datasets
import models
from benchmarks.shared import Pictures, short_errors
from datasets import Splits
from tuning.classifier import predict
from tuning.loader import Loader
from tuning.scores import score_of
from tuning.spec import HParams
from tuning.training import Training
from tuning.trial import build_arguments

MODEL = "resnet20"
LR, MOMENTUM, WEIGHT_DECAY, BATCH = 0.1, 0.9, 5e-4, 128
LIGHT = HParams(lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, batch_size=BATCH, augmentation="crop_flip")
HEAVY = HParams(**{**vars(LIGHT), "policy": "trivial_augment", "erasing": 0.25})


def network(splits: Splits, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(MODEL, **build_arguments(splits))


def ours(splits: Splits, epochs: int, seed: int, heavy: bool) -> tuple[float, nn.Module]:
    """Accuracy on the test images after the last epoch, and the trained network."""
    training = Training(network(splits, seed), HEAVY if heavy else LIGHT, splits, epochs=epochs, seed=seed)
    for _ in training.run():
        pass
    logits, labels = predict(training.evaluated, Loader(splits.test, training.device), training.format)
    return score_of(logits, labels), training.model.network


def plain(splits: Splits, epochs: int, seed: int, heavy: bool) -> tuple[float, nn.Module]:
    """The same without our code."""
    net = network(splits, seed).train()
    size = splits.image_size
    moves = [transforms.RandomCrop(size, padding=size // 8), transforms.RandomHorizontalFlip()]
    policy = [transforms.TrivialAugmentWide()] if heavy else []
    erasing = [transforms.RandomErasing(0.25)] if heavy else []  # before the normalisation: its 0 is black
    normalise = transforms.Normalize(splits.mean, splits.std)
    transform = transforms.Compose([*moves, *policy, transforms.ToTensor(), *erasing, normalise])
    loader = DataLoader(Pictures(splits.train, transform), BATCH, shuffle=True, drop_last=True)
    decaying = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decaying, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, nesterov=True)
    total = epochs * len(loader)
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * (step + 1) / (total + 1)))
    )
    torch.manual_seed(seed + 1_000_000)  # of shuffling and transforms, unrelated to that of the weights
    for _ in range(epochs):
        for inputs, labels in loader:
            loss = nn.functional.cross_entropy(net(inputs), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            cosine.step()
    return plain_accuracy(net, splits), net


@torch.inference_mode()
def plain_accuracy(net: nn.Module, splits: Splits) -> float:
    net.eval()
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(splits.mean, splits.std)])
    loader = DataLoader(Pictures(splits.test, transform), 500)
    right = sum(int((net(inputs).argmax(1) == labels).sum()) for inputs, labels in loader)
    return right / len(splits.test)


def compare(options: argparse.Namespace) -> None:
    splits = datasets.load(
        "fashion_mnist",
        root=options.data_dir,
        image_size=models.architecture(MODEL).fitting_size(28),
        val_fraction=0.01,  # neither side chooses anything by it
        train_images=options.train_images,
    )
    if len(splits.train) < BATCH:
        raise ValueError(f"--train-images must be at least a batch of {BATCH}, got {options.train_images}")
    kind = "crop, flip, TrivialAugment, erasing 0.25" if options.heavy else "crop, flip"
    print(
        f"{MODEL}, {splits.image_size} px, {len(splits.train):,} images, {options.epochs} epochs, {kind}\n", flush=True
    )
    print("| seed | ours, test % | plain, test % | ours, s | plain, s |\n| --- | --- | --- | --- | --- |", flush=True)
    sides = {"ours": ours, "plain": plain}
    scores: dict[str, list[float]] = {name: [] for name in sides}
    furthest = 0.0  # between our way to score the networks that we trained, and the plain one
    for seed in range(options.seeds):
        seconds = {}
        for name in sorted(sides, reverse=bool(seed % 2)):
            start = time.perf_counter()
            score, net = sides[name](splits, options.epochs, seed, options.heavy)
            seconds[name] = time.perf_counter() - start
            scores[name].append(score)
            furthest = max(furthest, abs(score - plain_accuracy(net, splits)))
        pair = [f"{100 * scores[name][seed]:.2f}" for name in sides] + [f"{seconds[name]:.0f}" for name in sides]
        print(f"| {seed} | {' | '.join(pair)} |", flush=True)
    test = ttest_ind(scores["ours"], scores["plain"], equal_var=False)
    low, high = (100 * bound for bound in test.confidence_interval(0.95))
    print()
    for name, values in scores.items():
        print(f"{name:<6} {100 * fmean(values):.2f} % +- {100 * stdev(values):.2f} (deviation over seeds)")
    difference = 100 * (fmean(scores["ours"]) - fmean(scores["plain"]))
    verdict = "within noise" if low <= 0 <= high else "NOT within noise"
    print(f"ours - plain {difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f} (Welch): {verdict}")
    images = furthest * len(splits.test)
    print(f"our networks, scored in our way and in the plain one, differ by {images:.0f} images at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="/usr/share/datasets/fashion-mnist", help="where Fashion-MNIST lies")
    parser.add_argument("--train-images", type=int, default=6000, help="to train on")
    parser.add_argument("--epochs", type=int, default=6, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each side, at least 2")
    parser.add_argument("--heavy", action="store_true", help="also TrivialAugment and random erasing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with short_errors():
        if options.seeds < 2 or options.epochs < 1:
            raise ValueError(f"--seeds must be at least 2 and --epochs 1, got {options.seeds} and {options.epochs}")
        compare(options)


if __name__ == "__main__":
    main()
