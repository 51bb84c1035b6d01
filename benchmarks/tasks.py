"""Learning curves without training: the LCBench surrogate, and our own recorded trainings, as tasks for a search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.curves import DIGITS, Curves, load
from tuning.cube import Cube

SURROGATE = Path("../shared/lcbench_surrogate")  # YAHPO Gym's (Pfisterer et al. 2022); not ours to copy
INPUTS = ["epoch", "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout"]
LEFT_OUT = "167083"  # in the encoding, but not among YAHPO's 34 tasks
REFERENCE = 1_000  # random configurations whose best and median make the scale of the regret
Config = Mapping[str, Any]
Array = NDArray[np.float64]


class Task(Protocol):
    """Something to search: `best` and `median` are of full trainings, larger scores being better."""

    name: str
    epochs: int
    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, tuple[str, Any]]
    baseline: Config | None
    best: float
    median: float

    def curve(self, config: Config) -> Array | None:
        """The score after each epoch; None if there is nothing left to train."""


@dataclass
class SurrogateTask:
    """One of the 34 tasks of LCBench: a small network on a table of numbers, 52 epochs."""

    name: str
    code: int
    folder: Path = SURROGATE
    epochs: int = 52
    conditions: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    baseline: Config | None = None

    def __post_init__(self) -> None:
        described = json.loads((self.folder / "config_space.json").read_text())["hyperparameters"]
        self.distributions: Mapping[str, BaseDistribution] = {
            h["name"]: _distribution(h) for h in described if h["name"] in INPUTS[1:]
        }
        cube, rng = Cube(self.distributions), np.random.default_rng(1)
        points = rng.random((REFERENCE, len(self.distributions)))
        last = self._scores([cube.config(point) for point in points], [self.epochs] * REFERENCE)
        self.best, self.median = float(last.max()), float(np.median(last))

    def curve(self, config: Config) -> Array:
        return self._scores([config] * self.epochs, range(1, self.epochs + 1))

    def _scores(self, configs: Sequence[Config], epochs: Sequence[int]) -> Array:
        rows = [[e, *(c[name] for name in INPUTS[1:])] for c, e in zip(configs, epochs, strict=True)]
        inputs = {
            "x_cat": np.full((len(rows), 1), self.code, np.int32),
            "x_cont": np.array(rows, np.float32),
        }
        return np.asarray(_session(self.folder).run(None, inputs)[0][:, 1], np.float64) / 100


class RecordedTask:
    """Our own trainings of one seed: each proposal gets the nearest recorded configuration that is still to be had."""

    def __init__(self, seed: int, path: Path = DIGITS) -> None:
        self.table: Curves = load(path)
        self.name, self.seed, self.epochs = path.name.split(".")[0], seed, int(self.table.facts["epochs"])
        self.distributions, self.conditions = self.table.distributions, self.table.conditions
        self.baseline: Config | None = self.table.baseline
        self.cube = Cube(self.distributions, self.conditions)
        self.points = np.concatenate([self._features(trial.config) for trial in self.table.trials])
        self.scores = np.array([np.nan_to_num(trial.curves[seed]) for trial in self.table.trials])
        self.best, self.median = float(self.scores[:, -1].max()), float(np.median(self.scores[:, -1]))
        self._left = set(range(len(self.scores)))

    def curve(self, config: Config) -> Array | None:
        if not self._left:
            return None
        distances = np.linalg.norm(self.points - self._features(config), axis=1)
        nearest = min(self._left, key=lambda index: distances[index])
        self._left.remove(nearest)
        return np.asarray(self.scores[nearest])

    def _features(self, config: Config) -> Array:
        return self.cube.features(self.cube.point(config)[None])


def surrogate_codes(parity: str, folder: Path = SURROGATE) -> dict[str, int]:
    """The tasks whose code is even, odd or either (`all`), by name."""
    codes: dict[str, int] = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
    wanted = {"even": (0,), "odd": (1,), "all": (0, 1)}[parity]
    return {name: code for name, code in codes.items() if name != LEFT_OUT and code > 0 and code % 2 in wanted}


def _distribution(described: Mapping[str, Any]) -> BaseDistribution:
    low, high, log = described["lower"], described["upper"], described["log"]
    return IntDistribution(low, high, log=log) if "int" in described["type"] else FloatDistribution(low, high, log=log)


@cache
def _session(folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
