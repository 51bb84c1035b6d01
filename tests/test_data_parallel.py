"""Several processes train one network as one process would; what happens to one of them happens to all."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle
from torch import Tensor, nn

import datasets
from search_spaces import SearchSpace
from tests.patience import until
from tuning import team
from tuning.classifier import Format
from tuning.data_parallel import Lost, together
from tuning.prepare import prepare
from tuning.spec import HParams, StudySpec
from tuning.storage import Storage
from tuning.team import Team
from tuning.training import Diverged, EpochMetrics, OutOfMemory, Training
from tuning.trial import TrialSetup

RECIPE = {"lr": 0.05, "batch_size": 61, "clip_norm": 1.0, "ema_decay": 0.9, "label_smoothing": 0.1, "warmup": 0.1}
# weights: float32 sums in another order, over 42 steps with momentum
assert_close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-5)


class Network(nn.Module):
    """Two layers, each part of a batch in the same way, unless a process of a team is told to misbehave."""

    def __init__(self, norm: bool, most: int, poisoned: bool, broken: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.most, self.poisoned, self.broken = most, poisoned, broken
        middle = nn.BatchNorm1d(32) if norm else nn.Identity()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), middle, nn.ReLU(), nn.Linear(32, 10))

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if self.broken:
            raise ArithmeticError("of one process")
        logits: Tensor = self.layers(images)
        return logits * float("nan") if self.training and self.poisoned else logits


@dataclass(frozen=True, kw_only=True)
class Setup(TrialSetup):
    """Of trials of a small network."""

    norm: bool = False
    most: int = 10**6  # images that the last process takes at once
    poisoned: bool = False  # whether the last process computes NaN
    broken: bool = False  # whether it raises

    def training(self, config: Any, seed: int, *, format: Format | None = None) -> Training:
        own = team.current()
        (self.storage.folder / f"{own.rank}.pid").write_text(str(os.getpid()))
        last = own.size > 1 and own.rank == own.size - 1
        most = self.most if last else 10**6
        network = Network(self.norm, most, self.poisoned and last, self.broken and last)
        return Training(network, HParams(**config), self.splits, epochs=self.spec.epochs, seed=seed)


@pytest.fixture
def setup(ray_session: None, tmp_path: Path) -> Iterator[Setup]:
    """Of trials of two processes."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield Setup(
        spec=StudySpec(model="resnet20", name="x", epochs=2),
        fixed={},
        splits=datasets.load("digits", root="unused"),
        format=Format(),
        storage=Storage(str(tmp_path.parent), tmp_path.name),
        cpus=1,
        device="cpu",
        gpus=2.0,
    )
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def alone(setup: Setup, config: dict[str, Any]) -> tuple[Training, list[EpochMetrics]]:
    training = setup.training(config, 7)
    return training, list(training.run())


def shared(setup: Setup, config: dict[str, Any]) -> tuple[Training, list[EpochMetrics]]:
    with together(setup, config, 7):
        training = setup.training(config, 7)
        return training, list(training.run())


def assert_alike(seen: list[EpochMetrics], expected: list[EpochMetrics]) -> None:
    assert [m.epoch for m in seen] == [m.epoch for m in expected]
    for one, other in zip(seen, expected, strict=True):
        for name in ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top5_accuracy"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4, abs=1e-3), name


def assert_same_weights(seen: Training, expected: Training) -> None:
    for name, value in expected.weights().items():
        assert_close(seen.weights()[name], value)


def test_two_processes_give_what_one_gives(setup: Setup) -> None:
    """Batches of 61 go in parts of 30 and 31."""
    expected, metrics = alone(setup, RECIPE)
    seen, together_metrics = shared(setup, RECIPE)
    assert seen.team == Team(0, 2)
    assert_alike(together_metrics, metrics)
    assert_same_weights(seen, expected)
    assert [m.micro_batch for m in together_metrics] == [31, 31]
    assert team.current() == Team(), "the group is left"


def test_three_processes_go_on_where_one_was_stopped(setup: Setup) -> None:
    expected, metrics = alone(setup, RECIPE)
    stopped = setup.training(RECIPE, 7)
    next(stopped.run())
    state = stopped.state()
    with together(dataclasses.replace(setup, gpus=3.0), RECIPE, 7):
        resumed = setup.training(RECIPE, 7)
        resumed.restore(*state)
        assert_alike(list(resumed.run()), metrics[1:])
    assert_same_weights(resumed, expected)


def test_what_does_not_fit_in_one_process_is_split_in_all(setup: Setup) -> None:
    expected, metrics = alone(setup, RECIPE)
    seen, together_metrics = shared(dataclasses.replace(setup, most=10), RECIPE)
    assert [m.micro_batch for m in together_metrics] == [8, 8]  # 31, 16, 8
    assert_alike(together_metrics, metrics)
    assert_same_weights(seen, expected)


@pytest.mark.long
def test_where_one_process_never_fits_the_first_says_so(setup: Setup) -> None:
    with pytest.raises(OutOfMemory, match="not even 2 images"):
        shared(dataclasses.replace(setup, most=1), RECIPE)


def test_what_diverges_in_one_process_diverges_in_all(setup: Setup) -> None:
    with pytest.raises(Diverged, match="in epoch 1"):
        shared(dataclasses.replace(setup, poisoned=True), RECIPE)


@pytest.mark.long
def test_batch_norm_sees_a_process_s_part_as_where_a_batch_is_split_for_memory(setup: Setup) -> None:
    config = {"lr": 0.05, "batch_size": 64}
    normed = dataclasses.replace(setup, norm=True)
    parts = normed.training(config, 7)
    parts.micro_batch = 32
    expected, (seen, metrics) = list(parts.run()), shared(normed, config)
    assert [m.train_loss for m in metrics] == pytest.approx([m.train_loss for m in expected], rel=1e-4)
    for name, value in parts.model.network.named_parameters():
        assert_close(seen.model.network.get_parameter(name), value)
    assert metrics[-1].val_accuracy == pytest.approx(expected[-1].val_accuracy, abs=0.05)  # their running means differ


def test_a_process_that_is_killed_ends_the_others_with_the_reason(setup: Setup) -> None:
    long = dataclasses.replace(setup, spec=dataclasses.replace(setup.spec, epochs=10_000))
    killed = 0.0

    def train() -> None:
        nonlocal killed
        with together(long, RECIPE, 7):
            for metrics in long.training(RECIPE, 7).run():
                if metrics.epoch == 2:
                    killed = time.monotonic()
                    os.kill(int((long.storage.folder / "1.pid").read_text()), signal.SIGKILL)

    with pytest.raises(Lost, match="process 2 of 2 of the trial was lost: .*"):
        train()
    assert time.monotonic() - killed < 10
    assert team.current() == Team()


@pytest.mark.long
def test_an_error_in_one_process_ends_the_others_with_its_line(setup: Setup) -> None:
    with pytest.raises(Lost, match="process 2 of 2 of the trial was lost: ArithmeticError: of one process"):
        shared(dataclasses.replace(setup, broken=True), RECIPE)


@pytest.mark.long
def test_a_trial_whose_process_dies_takes_the_others_along(setup: Setup) -> None:
    def die() -> None:
        with together(setup, RECIPE, 7):
            next(setup.training(RECIPE, 7).run())
            os._exit(0)

    with pytest.raises(ray.exceptions.RayError):
        ray.get(ray.remote(die).options(max_retries=0).remote())
    assert_gone(Path("/proc", (setup.storage.folder / "1.pid").read_text()))


@pytest.mark.long
def test_a_trial_that_is_left_takes_its_processes_along(setup: Setup) -> None:
    with together(setup, RECIPE, 7):
        next(setup.training(RECIPE, 7).run())  # the other trains on, until it waits
        other = Path("/proc", (setup.storage.folder / "1.pid").read_text())
        assert other.exists()
    assert_gone(other)


def assert_gone(other: Path) -> None:
    until(lambda: not other.exists(), 20)


def test_batches_too_small_for_so_many_processes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    spec = StudySpec(model="resnet20", name="x", gpus_per_trial=4, results_dir=str(tmp_path))
    small = SearchSpace(distributions={}, baseline={}, fixed={"lr": 0.1, "batch_size": 7})
    with pytest.raises(ValueError, match="batch_size may be 7, which leaves some of 4 GPUs fewer than 2 images"):
        prepare(spec, small)
    assert prepare(spec).spec.gpus_per_trial == 4


@given(st.integers(0, 1000), st.integers(1, 16))
def test_each_row_belongs_to_one_process_and_none_has_two_more_than_another(rows: int, size: int) -> None:
    parts = [range(rows)[Team(rank, size).part(rows)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) == Team(0, size).largest_part(rows)
