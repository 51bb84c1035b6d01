"""The function that a Ray worker runs for each trial: a configuration in, a report per epoch out."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from ray import tune

import models
from cluster.resources import Resources
from cluster.session import machine_is_going
from cluster.versions import Versions, check, own
from datasets import Splits
from tuning.classifier import Format
from tuning.costs import architecture_costs, training_costs
from tuning.data_parallel import together
from tuning.seeds import derive_seed
from tuning.spec import METRIC, MODEL, HParams, StudySpec, model_options
from tuning.storage import Storage
from tuning.training import Diverged, Training

PREFIX = "trial_"
SAVING_SHARE = 0.05  # of a trial's time, at most; a kill costs the epochs since the last state


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What all trials of a study share; Ray keeps one copy of it a node.

    A study of several architectures has a setup for each in `by_model`, alike in all that is not the architecture's.
    """

    spec: StudySpec
    fixed: Mapping[str, Any]
    splits: Splits
    format: Format
    storage: Storage
    cpus: float
    device: str
    gpus: float = 0.0  # of a trial; with several, a process trains on each
    by_model: Mapping[str, TrialSetup] = field(default_factory=dict)
    versions: Versions = field(default_factory=own)  # of the driver

    def of(self, config: Mapping[str, Any]) -> TrialSetup:
        """The setup of the configuration's architecture."""
        return self.by_model[config[MODEL]] if self.by_model else self

    @property
    def processes(self) -> int:
        """How many train a trial together."""
        return max(int(self.gpus), 1)

    def limited(self, trial: Resources) -> TrialSetup:
        """The setup of trials with these resources."""
        parts = {model: part.limited(trial) for model, part in self.by_model.items()}
        return dataclasses.replace(self, cpus=trial.cpus, gpus=trial.gpus, by_model=parts)

    def training(self, config: Mapping[str, Any], seed: int, *, format: Format | None = None) -> Training:
        """A training of the configuration from scratch; the same seed gives the same initial weights and batches."""
        torch.set_num_threads(max(int(self.cpus / self.processes), 1))
        if self.device == "cuda" and 0 < self.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(self.gpus)  # a trial that wants more harms itself alone
        torch.manual_seed(derive_seed(seed, "weights"))
        hparams = HParams(**{name: value for name, value in {**self.fixed, **config}.items() if name != MODEL})
        network = models.build(self.spec.model, **build_arguments(self.splits), **hparams.model_options)
        return Training(
            network,
            hparams,
            self.splits,
            epochs=self.spec.epochs,
            seed=seed,
            device=self.device,
            format=format or self.format,
        )


@dataclass
class Saving:
    """Decides after which epochs a trial saves its state: all, or as many as take `SAVING_SHARE` of its time."""

    trained: float = 0.0  # seconds
    saved: float = 0.0
    last: float = 0.0

    def due(self, seconds: float) -> bool:
        """Whether to save after another epoch, which took `seconds`; the first tells what it costs."""
        self.trained += seconds
        return self.saved + self.last <= SAVING_SHARE * self.trained

    def took(self, seconds: float) -> None:
        """Counts one saving."""
        self.last = seconds
        self.saved += seconds


def build_arguments(splits: Splits) -> dict[str, Any]:
    """The arguments of `models.build` that follow from the data."""
    return {"num_classes": len(splits.classes), "image_size": splits.image_size, "in_channels": splits.channels}


def trial_name(number: int) -> str:
    """How Ray, the folders and MLflow call trial `number`."""
    return f"{PREFIX}{number:04d}"


def best_of(number: int) -> str:
    """The checkpoint of a trial's best epoch, among the files of its study."""
    return f"trials/{trial_name(number)}/best.safetensors"


def state_of(number: int) -> str:
    """What a trial goes on from, among the files of its study."""
    return f"trials/{trial_name(number)}/state.safetensors"


def trial_number(name: str) -> int:
    """The inverse of `trial_name`."""
    return int(name.removeprefix(PREFIX))


def run_trial(config: dict[str, Any], setup: TrialSetup) -> None:
    """Trains one configuration, reporting each epoch to Ray Tune.

    Saves `best.safetensors` at each new best epoch and `state.safetensors` at the rungs, and after every epoch where
    that takes little of its time, before it reports them: the scheduler may end the trial at any report. A worker that
    takes over a trial goes on from its state. On a machine that will be taken away it saves after its epoch and leaves.
    """
    part = setup.of(config)
    _train(config, part, part.spec.seed)


def run_level(config: dict[str, Any], setups: Mapping[str, TrialSetup]) -> None:
    """Trains one level of a one-factor study, all of whose hyperparameters are fixed, with one seed."""
    setup = setups[config["level"]]
    _train({}, setup, derive_seed(setup.spec.seed, "replicate", config["replicate"]))


def _train(config: dict[str, Any], setup: TrialSetup, seed: int) -> None:
    check(setup.versions)
    with together(setup, config, seed):
        _train_and_report(config, setup, seed)


def _train_and_report(config: dict[str, Any], setup: TrialSetup, seed: int) -> None:
    number = trial_number(tune.get_context().get_trial_name())
    training, goals, storage = setup.training(config, seed), setup.spec.goals, setup.storage
    costs = architecture_costs(training, goals.costs, storage)
    best, going_on = resume(training, config, number, setup)
    if not going_on:
        return
    saving = Saving()
    try:
        for metrics in training.run():
            values = {**dataclasses.asdict(metrics), **costs, **training_costs(training, goals.costs)}
            if metrics.val_accuracy > best:
                best = metrics.val_accuracy
                meta = {"metrics": values, "options": model_options(vars(training.hparams)), "config": config}
                storage.save(best_of(number), training.weights(), meta)
            leaving = setup.spec.address != "local" and machine_is_going()
            due = leaving or saving.due(metrics.seconds) or metrics.epoch in setup.spec.rungs
            saved = due and metrics.epoch < setup.spec.epochs
            if saved:
                start = time.perf_counter()
                tensors, state = training.state()
                storage.save(state_of(number), tensors, {**state, "best": best, "metrics": values, "config": config})
                saving.took(time.perf_counter() - start)
            if not _report(number, values, setup.spec, saved=saved):
                return
            if leaving and saved:
                os._exit(0)  # Ray Tune starts the trial elsewhere, and counts no failure on such a machine
    except Diverged as diverged:
        tune.report({"trial": number, "epoch": diverged.epoch, METRIC: math.nan, "diverged": True, "done": True})


def resume(training: Training, config: dict[str, Any], number: int, setup: TrialSetup) -> tuple[float, bool]:
    """Restores the state of an earlier attempt if there is one; gives its best accuracy, and whether it goes on.

    The epoch of the state is reported again: the earlier attempt may have died between saving and reporting. A state
    of another configuration is that of a trial whose start a driver lost with its machine.
    """
    if not setup.storage.exists(state_of(number)):
        return -1.0, True
    tensors, meta = setup.storage.load(state_of(number))
    if meta["config"] != config:
        return -1.0, True
    training.restore({name: tensor.to(training.device) for name, tensor in tensors.items()}, meta)
    return float(meta["best"]), _report(number, meta["metrics"], setup.spec, saved=True)


def _report(number: int, metrics: Mapping[str, Any], spec: StudySpec, *, saved: bool) -> bool:
    """Whether the trial goes on: no training helps an architecture that costs more than a constraint allows."""
    costs = {name: metrics[name] for name in spec.goals.costs}
    broken = "" if number in spec.recipes else spec.goals.broken(costs)
    tune.report({"trial": number, "saved": saved, **metrics, **({"broken": broken, "done": True} if broken else {})})
    return not broken
