"""Learning curves of real trainings, recorded once by `record_curves.py`, for replaying searches without training."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution, json_to_distribution

DATA = Path(__file__).parent / "data"
DIGITS = DATA / "digits_resnet20.csv.gz"
WEIGHTS = ("last", "averaged")  # of which a row has the validation accuracies
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One configuration and its validation accuracies (seed, epoch); NaN from the epoch on in which it diverged."""

    config: Mapping[str, Any]
    curves: Array
    averaged: Array  # the same trainings, validated with an exponential average of their weights
    seconds: float  # of one processor core, an epoch


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A search space and trainings of random configurations of it, the published recipe first."""

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, tuple[str, Any]]
    baseline: Mapping[str, Any]
    trials: Sequence[Recorded]
    facts: Mapping[str, Any]  # what was trained, and how


def load(path: Path = DIGITS) -> Curves:
    """Reads a table, and the description of its space beside it."""
    description = json.loads(_description(path).read_text())
    space = description.pop("space")
    distributions = {name: json_to_distribution(text) for name, text in space["distributions"].items()}
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = dict.fromkeys(row["trial"] for row in rows)
    return Curves(
        distributions=distributions,
        conditions={name: tuple(condition) for name, condition in space["conditions"].items()},
        baseline=space["baseline"],
        trials=[_recorded([row for row in rows if row["trial"] == number], distributions) for number in numbers],
        facts=description,
    )


def save(trainings: Sequence[Mapping[str, Any]], description: Mapping[str, Any], path: Path = DIGITS) -> None:
    """Writes a table of `trainings`, each with trial, seed, config, seconds and a list of accuracies by weights."""
    names, epochs = list(description["space"]["distributions"]), range(1, description["epochs"] + 1)
    path.parent.mkdir(exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as packed:  # the same content, the same file
        lines = [["trial", "seed", "weights", "seconds", *names, *map(str, epochs)]]
        for training in sorted(trainings, key=lambda training: (training["trial"], training["seed"])):
            config = [_text(training["config"].get(name)) for name in names]
            for weights in WEIGHTS:
                scores = [*map(_text, training[weights]), *[""] * (len(epochs) - len(training[weights]))]
                start = [str(training["trial"]), str(training["seed"]), weights, _text(training["seconds"])]
                lines.append([*start, *config, *scores])
        packed.write("".join(",".join(line) + "\n" for line in lines).encode())
    _description(path).write_text(json.dumps(description, indent=2) + "\n")


def _recorded(rows: Sequence[Mapping[str, str]], distributions: Mapping[str, BaseDistribution]) -> Recorded:
    config = {name: _value(d, rows[0][name]) for name, d in distributions.items() if rows[0][name]}
    epochs = [name for name in rows[0] if name.isdigit()]
    curves = {
        weights: np.array([[float(row[e] or math.nan) for e in epochs] for row in rows if row["weights"] == weights])
        for weights in WEIGHTS
    }
    seconds = float(np.mean([float(row["seconds"]) for row in rows]))
    return Recorded(config=config, curves=curves["last"], averaged=curves["averaged"], seconds=seconds)


def _value(distribution: BaseDistribution, text: str) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if str(choice) == text)
    return int(text) if isinstance(distribution, IntDistribution) else float(text)


def _text(value: object) -> str:
    """Four digits after the point for accuracies and seconds, four significant ones for small hyperparameters."""
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if value >= 1e-2 else f"{value:.4g}"
    return "" if value is None else str(value)


def _description(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".csv.gz") + ".json")
