"""Records the learning curves of random configurations of resnet20 on digits: `python -m benchmarks.record_curves`.

Goes on where an earlier run ended, in as many processes as `--processes` says; `--pack` writes the table of what is
there, at any time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import distribution_to_json

import datasets
import models
import search_spaces
from benchmarks.curves import save
from datasets import Splits
from tuning.classifier import Format, predict
from tuning.scores import score_of
from tuning.seeds import derive_seed
from tuning.spec import HParams
from tuning.training import Diverged, Training

MODEL, DATASET = "resnet20", "digits"
EPOCHS, SEEDS = 20, (0, 1)
TRAIN_IMAGES, VAL_FRACTION = 600, 0.3  # few images to be quick, many to validate with: an image is 0.2 points
EMA_DECAY = 0.99
FORMAT = Format(memory_format="channels_last")
SPACE = search_spaces.for_model(MODEL)


@cache
def splits() -> Splits:
    fit = models.architecture(MODEL).fitting_size
    return datasets.load(DATASET, root="data", seed=0, fit=fit, val_fraction=VAL_FRACTION, train_images=TRAIN_IMAGES)


def configurations(count: int) -> list[dict[str, Any]]:
    """The published recipe, then random ones, the same for every count."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask(dict(SPACE.distributions)).params for _ in range(count - 1)]
    return [SPACE.active(config) for config in (SPACE.baseline, *drawn)]


def train(trial: int, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """One training: its accuracies by epoch, of the weights themselves and of their average, until it diverges."""
    torch.manual_seed(derive_seed(seed, "weights"))
    hparams = HParams(**{**SPACE.fixed, **config, "ema_decay": EMA_DECAY})  # averaging changes nothing in training
    shape = {"num_classes": len(splits().classes), "image_size": splits().image_size, "in_channels": splits().channels}
    network = models.build(MODEL, **shape, **hparams.model_options)
    training = Training(network, hparams, splits(), epochs=EPOCHS, seed=seed, format=FORMAT)
    last, averaged, start = [], [], time.process_time()
    try:
        for metrics in training.run():
            averaged.append(round(metrics.val_accuracy, 4))
            last.append(round(score_of(*predict(training.model, training.val_loader, FORMAT)), 4))
    except Diverged:
        pass
    seconds = round((time.process_time() - start) / max(len(last), 1), 4)
    return {"trial": trial, "seed": seed, "config": config, "seconds": seconds, "last": last, "averaged": averaged}


def read(folder: Path) -> list[dict[str, Any]]:
    """What was recorded so far; a line that a crash has torn is left out."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def record(share: int, processes: int, count: int, folder: Path) -> None:
    """Trains every configuration whose number leaves the remainder `share`, and has not been trained."""
    torch.set_num_threads(1)
    done = {(training["trial"], training["seed"]) for training in read(folder)}
    with open(folder / f"{time.time_ns()}-{share}.jsonl", "a") as file:
        for trial, config in enumerate(configurations(count)):
            for seed in SEEDS:
                if trial % processes == share and (trial, seed) not in done:
                    file.write(json.dumps(train(trial, config, seed)) + "\n")
                    file.flush()


def pack(folder: Path) -> None:
    """Writes the table of all configurations that were trained with every seed."""
    trainings = read(folder)
    seeds = {trial: {t["seed"] for t in trainings if t["trial"] == trial} for trial in {t["trial"] for t in trainings}}
    complete = [training for training in trainings if len(seeds[training["trial"]]) == len(SEEDS)]
    description = {
        "model": MODEL,
        "dataset": DATASET,
        "epochs": EPOCHS,
        "train_images": len(splits().train),
        "val_images": len(splits().val),
        "ema_decay": EMA_DECAY,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "space": {
            "distributions": {name: distribution_to_json(d) for name, d in SPACE.distributions.items()},
            "conditions": dict(SPACE.conditions),
            "baseline": SPACE.active(SPACE.baseline),
            "fixed": dict(SPACE.fixed),
        },
    }
    save(complete, description)
    print(f"{len(complete) // len(SEEDS)} configurations x {len(SEEDS)} seeds x {EPOCHS} epochs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=160, help="the published recipe among them")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once, a core each")
    parser.add_argument(
        "--folder", type=Path, default=Path("results/curves"), help="what is recorded until it is packed"
    )
    parser.add_argument("--pack", action="store_true", help="write the table of what is there, train nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.pack:
        context = multiprocessing.get_context("spawn")  # torch and fork do not go together
        arguments = (options.processes, options.configurations, options.folder)
        processes = [context.Process(target=record, args=(share, *arguments)) for share in range(options.processes)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    pack(options.folder)


if __name__ == "__main__":
    main()
