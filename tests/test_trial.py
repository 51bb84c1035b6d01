"""Warm workers: a trial leaves nothing behind that the next one could notice."""

import dataclasses
import gc
import hashlib
import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle, tune
from ray.tune.search import Searcher

import datasets
from cluster.versions import own
from tuning.classifier import Format
from tuning.spec import METRIC, StudySpec
from tuning.storage import Storage
from tuning.trial import SAVING_SHARE, Saving, TrialSetup, resume, run_trial, state_of, trial_name, trial_number

PLAIN: dict[str, Any] = {"lr": 0.05, "batch_size": 64, "augmentation": "crop_flip", "erasing": 0.3, "mixup": 0.2}
OTHER = {"lr": 0.01, "batch_size": 32, "augmentation": "none", "ema_decay": 0.9, "optimizer": "adamw"}
DIVERGES = {"lr": 100.0, "batch_size": 64, "momentum": 0.999, "weight_decay": 10.0}


class InOrder(Searcher):
    """Hands out the given configurations."""

    def __init__(self, configs: list[dict[str, Any]]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.configs, self.numbers = configs, dict[str, int]()

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.numbers[trial_id] = len(self.numbers)
        return dict(self.configs[self.numbers[trial_id]])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass


def snapshot() -> dict[str, Any]:
    """What one trial could leave to the next."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    return {
        "live tensors": len(tensors),
        "tensor bytes": sum(tensor.nbytes for tensor in tensors),
        "threads of torch": torch.get_num_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "python's random": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        "numpy's random": hashlib.sha256(np.random.get_state(legacy=False)["state"]["key"].tobytes()).hexdigest(),
        "environment": hashlib.sha256(repr(sorted(os.environ.items())).encode()).hexdigest(),
        "threads": sorted(thread.name for thread in threading.enumerate() if thread.name == "mlflow"),
    }


def spied(config: dict[str, Any], setup: TrialSetup) -> None:
    number = trial_number(tune.get_context().get_trial_name())
    (setup.storage.folder / f"before_{number}.json").write_text(json.dumps({"pid": os.getpid(), **snapshot()}))
    run_trial(config, setup)


@pytest.fixture(scope="module")
def run(
    ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[ray.tune.Result], list[dict[str, Any]]]:
    """Results of the trials, and what a worker looked like before each."""
    folder: Path = tmp_path_factory.mktemp("leaks")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    configs: list[dict[str, Any]] = [PLAIN, OTHER, DIVERGES, OTHER, PLAIN]
    setup = TrialSetup(
        spec=StudySpec(model="resnet20", name="x", epochs=3),
        fixed={"schedule": "cosine"},
        splits=datasets.load("digits", root="unused"),
        format=Format(memory_format="channels_last"),
        storage=Storage(str(folder.parent), folder.name),
        cpus=1,
        device="cpu",
    )
    searcher = InOrder(configs)
    numbers = searcher.numbers
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(spied, setup=setup), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", search_alg=searcher, num_samples=len(configs), max_concurrent_trials=1,
            reuse_actors=True, trial_name_creator=lambda trial: trial_name(numbers[trial.trial_id]),
        ),
        run_config=tune.RunConfig(name="t", storage_path=str(folder / "ray"), verbose=0),
    )  # fmt: skip
    results = {result.metrics["trial"]: result for result in tuner.fit() if result.metrics}
    befores = [json.loads((folder / f"before_{number}.json").read_text()) for number in range(len(configs))]
    return [results[number] for number in range(len(configs))], befores


def numbers_of(result: ray.tune.Result) -> dict[str, float]:
    keys = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top5_accuracy", "lr")
    assert result.metrics is not None
    return {key: result.metrics[key] for key in keys}


def test_all_trials_ran_in_one_process(run: tuple[list[ray.tune.Result], list[dict[str, Any]]]) -> None:
    assert len({before["pid"] for before in run[1]}) == 1


def test_a_trial_gives_the_same_numbers_whatever_ran_before_it(
    run: tuple[list[ray.tune.Result], list[dict[str, Any]]],
) -> None:
    results, _ = run
    assert numbers_of(results[0]) == numbers_of(results[4])
    assert numbers_of(results[1]) == numbers_of(results[3])
    assert numbers_of(results[0]) != numbers_of(results[1])


def test_a_worker_looks_the_same_before_each_trial(run: tuple[list[ray.tune.Result], list[dict[str, Any]]]) -> None:
    _, befores = run
    second = befores[1]  # before the first, the worker had not loaded its libraries' tables
    for later in befores[2:]:
        assert later == second


def test_a_diverged_trial_ends_at_once_and_is_not_retried(
    run: tuple[list[ray.tune.Result], list[dict[str, Any]]],
) -> None:
    diverged = run[0][2]
    assert diverged.error is None
    assert diverged.metrics is not None
    assert diverged.metrics["diverged"] is True
    assert diverged.metrics["epoch"] < 3
    assert np.isnan(diverged.metrics[METRIC])


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.001, 10)), min_size=1, max_size=50))
def test_saving_takes_its_share_at_most_but_for_the_first(costs: list[tuple[float, float]]) -> None:
    saving, taken = Saving(), list[float]()
    for training, cost in costs:
        if saving.due(training):
            taken.append(cost)
            saving.took(cost)
    assert taken, "the first epoch is always saved"
    assert sum(taken[:-1]) <= SAVING_SHARE * saving.trained or len(taken) == 1


def test_a_cheap_state_is_saved_after_every_epoch_and_a_dear_one_after_some() -> None:
    def saved(cost: float) -> list[int]:
        saving, epochs = Saving(), []
        for epoch in range(1, 13):
            if saving.due(1.0):
                saving.took(cost)
                epochs.append(epoch)
        return epochs

    assert saved(0.02) == list(range(1, 13))
    assert saved(0.125) == [1, 5, 8, 10]


def test_names_and_numbers_are_inverse() -> None:
    assert [trial_number(trial_name(number)) for number in (0, 7, 12345)] == [0, 7, 12345]


def test_a_state_is_used_by_the_configuration_alone_that_it_was_saved_for(tmp_path: Path) -> None:
    setup = TrialSetup(
        spec=StudySpec(model="resnet20", name="x"), fixed={}, splits=datasets.load("digits", root="unused"),
        format=Format(), storage=Storage(str(tmp_path), "x"), cpus=1, device="cpu",
    )  # fmt: skip
    earlier = setup.training(PLAIN, 0)
    next(earlier.run())
    tensors, meta = earlier.state()
    setup.storage.save(state_of(3), tensors, {**meta, "best": 0.5, "metrics": {}, "config": PLAIN})
    other = {**PLAIN, "lr": PLAIN["lr"] / 2}
    training = setup.training(other, 0)
    assert resume(training, other, 3, setup) == (-1.0, True)
    assert training.epoch == 0


def test_a_worker_with_other_versions_than_the_driver_refuses_the_trial(tmp_path: Path) -> None:
    setup = TrialSetup(
        spec=StudySpec(model="resnet20", name="x"), fixed={}, splits=datasets.load("digits", root="unused"),
        format=Format(), storage=Storage(str(tmp_path), "x"), cpus=1, device="cpu",
        versions=dataclasses.replace(own(), torch="9.9.0"),
    )  # fmt: skip
    there = cloudpickle.loads(cloudpickle.dumps(setup))
    with pytest.raises(
        RuntimeError, match=r"other versions: torch is 9\.9\.0 here but .* on node .*; install the same"
    ):
        run_trial(PLAIN, there)
