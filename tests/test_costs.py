"""What architectures cost: exact counts, and times that agree with the size of a network."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import datasets
import models
from datasets import Splits
from tuning.classifier import Format
from tuning.costs import LATENCIES, architecture_costs, known_latency_ms, latency_ms, training_costs
from tuning.spec import HParams
from tuning.storage import Storage
from tuning.training import Training


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load("digits", root="unused", image_size=16, train_images=64)


def training(splits: Splits, **options: Any) -> Training:
    hparams = HParams(lr=0.1, batch_size=32, **options)
    shape = {"num_classes": 10, "image_size": 16, "in_channels": splits.channels}
    network = models.build("mobilenet_v1", **shape, **hparams.model_options)
    return Training(network, hparams, splits, epochs=1, seed=0)


def test_parameters_are_those_of_the_network(splits: Splits) -> None:
    small = training(splits, width=0.25)
    count = sum(parameter.numel() for parameter in small.model.network.parameters())
    assert architecture_costs(small, ("parameters",), Storage("unused", "study")) == {"parameters": count}
    assert architecture_costs(small, (), Storage("unused", "study")) == training_costs(small, ("parameters",)) == {}


def test_a_larger_network_takes_longer(splits: Splits) -> None:
    small, large = latency_ms(training(splits, width=0.1)), latency_ms(training(splits, width=2.0))
    assert 0 < 2 * small < large


def test_measuring_changes_nothing_that_is_trained(splits: Splits) -> None:
    measured, plain = (training(splits, width=0.25) for _ in range(2))
    plain.model.load_state_dict(measured.model.state_dict())
    latency_ms(measured)
    for one, other in zip(measured.run(), plain.run(), strict=True):
        different = {"images_per_second", "seconds"}
        assert {k: v for k, v in dataclasses.asdict(one).items() if k not in different} == {
            k: v for k, v in dataclasses.asdict(other).items() if k not in different
        }
    for name, tensor in measured.weights().items():
        assert torch.equal(tensor, plain.weights()[name]), name


def test_an_architecture_is_measured_once_a_study_whatever_its_dropout(splits: Splits, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), "study")
    first = known_latency_ms(training(splits, width=0.25, dropout=0.1), storage)
    assert known_latency_ms(training(splits, width=0.25, dropout=0.5), storage) == first
    assert len(json.loads((storage.folder / LATENCIES).read_text())) == 1
    known_latency_ms(training(splits, width=0.5), storage)
    assert len(json.loads((storage.folder / LATENCIES).read_text())) == 2


def test_bfloat16_and_channels_last_can_be_timed(splits: Splits) -> None:
    measured = training(splits, width=0.1)
    measured.format = Format(precision="bfloat16", memory_format="channels_last")
    assert latency_ms(measured) > 0
