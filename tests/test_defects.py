"""Defects that re-implementations of these papers really had: each would fail a test here or where the comment says.

Wrong parameter counts, a softmax at the end, sizes that crash: test_models.py. Overlapping splits: test_datasets.py.
"""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.efficientnet import MBConv
from torchvision.models.mobilenetv2 import InvertedResidual

import datasets
import models
from datasets import Splits
from search_spaces import limits
from tuning.spec import HParams
from tuning.training import Training

CASES: dict[str, tuple[dict[str, Any], Any]] = {  # hyperparameter -> where it matters, another value
    "lr": ({}, 0.05),
    "crop_scale": ({"augmentation": "resized_crop_flip"}, 0.9),
    "jitter": ({}, 0.4),
    "optimizer": ({}, "adamw"),
    "momentum": ({}, 0.5),
    "eps": ({"optimizer": "adamw"}, 0.1),
    "weight_decay": ({}, 0.1),
    "batch_size": ({}, 32),
    "schedule": ({}, "linear"),
    "warmup": ({}, 0.5),
    "step_start": ({"schedule": "step"}, 0.2),
    "step_every": ({"schedule": "step"}, 0.1),
    "step_gamma": ({"schedule": "step"}, 0.5),
    "plateau_patience": ({"schedule": "plateau", "lr": 0.5, "momentum": 0.99}, 0),
    "label_smoothing": ({}, 0.1),
    "clip_norm": ({}, 0.1),
    "ema_decay": ({}, 0.9),
    "aux_weight": ({}, 0.3),
    "augmentation": ({}, "crop"),
    "policy": ({}, "trivial_augment"),
    "policy_ops": ({"policy": "rand_augment"}, 1),
    "policy_magnitude": ({"policy": "rand_augment"}, 20.0),
    "erasing": ({}, 0.5),
    "cutout": ({}, 0.5),
    "mixup": ({}, 0.4),
    "cutmix": ({}, 1.0),
}


class TwoHeads(nn.Module):
    """A small classifier with an auxiliary head on its first layer."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.trunk, self.side, self.head = nn.Linear(pixels, 32), nn.Linear(32, 10), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = torch.relu(self.trunk(x.flatten(1)))
        return (self.head(x), self.side(x)) if self.training else self.head(x)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load("digits", root="unused", train_images=300)


def losses(splits: Splits, **config: Any) -> list[tuple[float, float]]:
    torch.manual_seed(0)
    hparams = HParams(**{"lr": 0.1, "batch_size": 64, **config})
    training = Training(TwoHeads(64), hparams, splits, epochs=6, seed=0)
    return [(metrics.train_loss, metrics.val_loss) for metrics in training.run()]


def test_every_hyperparameter_is_listed_or_concerns_how_a_network_is_built() -> None:
    """Options of networks: test_models.py checks that each changes a layer."""
    assert set(CASES) == {field.name for field in dataclasses.fields(HParams)} - set(limits.MODEL_OPTIONS)


@pytest.mark.parametrize("name", CASES)
def test_every_hyperparameter_changes_the_training(splits: Splits, name: str) -> None:
    where, value = CASES[name]
    assert losses(splits, **where, **{name: value}) != losses(splits, **where)


def test_the_rate_falls_within_the_epochs_that_are_trained(splits: Splits) -> None:
    for schedule in ("cosine", "linear", "step"):
        hparams = HParams(lr=0.1, batch_size=64, schedule=schedule)
        rates = [metrics.lr for metrics in Training(TwoHeads(64), hparams, splits, epochs=8, seed=0).run()]
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] <= 0.05 * rates[0], schedule


def test_auxiliary_heads_learn_with_their_weight_and_are_gone_in_evaluation(splits: Splits) -> None:
    network = TwoHeads(64)
    before = network.side.weight.clone()
    list(Training(network, HParams(lr=0.1, batch_size=64), splits, epochs=1, seed=0).run())
    assert torch.equal(network.side.weight, before), "a weight of 0 leaves them alone"
    list(Training(network, HParams(lr=0.1, batch_size=64, aux_weight=0.3), splits, epochs=1, seed=0).run())
    assert not torch.equal(network.side.weight, before)
    googlenet = models.build("googlenet", num_classes=3, image_size=32, aux=True)
    images = torch.randn(2, 3, 32, 32)
    assert [logits.shape for logits in googlenet.train()(images)] == [(2, 3)] * 3
    assert googlenet.eval()(images).shape == (2, 3)


@pytest.mark.parametrize("name", ["alexnet_cifar", "efficientnet_b0"])
def test_two_validations_of_a_network_with_dropout_agree_and_change_nothing(splits: Splits, name: str) -> None:
    size = max(models.architecture(name).min_size, 16)
    small = datasets.load("digits", root="unused", image_size=size, train_images=50)
    network = models.build(name, num_classes=10, image_size=size, in_channels=1, dropout=0.5)
    training = Training(network, HParams(lr=0.1, batch_size=16), small, epochs=1, seed=0)
    training.model.train()
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    assert training.validate() == training.validate()
    assert all(torch.equal(value, before[key]) for key, value in training.model.state_dict().items())


def test_accuracy_is_over_all_images_of_the_part(splits: Splits) -> None:
    """Not over whole batches: 143 images divide by no batch size in use."""
    training = Training(TwoHeads(64), HParams(lr=0.1, batch_size=64), splits, epochs=1, seed=0)
    (metrics,) = training.run()
    assert metrics.val_accuracy * len(splits.val) == pytest.approx(round(metrics.val_accuracy * len(splits.val)))


def test_efficientnet_blocks_add_their_skip() -> None:
    network = models.build("efficientnet_b0", num_classes=2, image_size=32).eval()
    blocks = [module for module in network.modules() if isinstance(module, MBConv) and module.use_res_connect]
    assert blocks
    for block in blocks:
        last = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        channels = last.num_features
        x = torch.randn(2, channels, 4, 4)
        with torch.no_grad():
            assert torch.equal(block(x), x)


def test_mobilenet_v2_blocks_end_without_an_activation() -> None:
    network = models.build("mobilenet_v2", num_classes=2, image_size=32)
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    assert len(blocks) == 17
    for block in blocks:
        assert isinstance(block.conv[-1], nn.BatchNorm2d)


def test_squeeze_and_excitation_weighs_the_branch_and_not_the_skip() -> None:
    network = models.build("se_resnet20", num_classes=2, image_size=32).eval()
    block = network.get_submodule("layers.0")
    nn.init.zeros_(block.get_parameter("se.fc2.weight"))
    nn.init.constant_(block.get_parameter("se.fc2.bias"), -100.0)  # the sigmoid's 0
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        assert torch.allclose(block(x), F.relu(x))


def test_plain_networks_have_no_skip() -> None:
    plain, residual = (models.build(name, num_classes=2, image_size=32).eval() for name in ("plain20", "resnet20"))
    residual.load_state_dict(plain.state_dict())
    for network in (plain, residual):
        nn.init.zeros_(network.get_parameter("layers.0.bn2.weight"))
    x = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        assert not plain.get_submodule("layers.0")(x).any()
        assert torch.allclose(residual.get_submodule("layers.0")(x), x)


def test_preactivation_carries_the_signal_unchanged() -> None:
    network = models.build("preact_resnet18", num_classes=2, image_size=32).eval()
    block = network.get_submodule("blocks.0")
    nn.init.zeros_(block.get_parameter("convolutions.1.weight"))
    x = torch.randn(1, 64, 8, 8)
    with torch.no_grad():
        assert torch.equal(block(x), x)


def test_wide_networks_drop_between_the_convolutions_and_vit_drops_paths() -> None:
    torch.manual_seed(0)
    cases: dict[str, dict[str, Any]] = {"wrn_16_4": {"dropout": 0.5}, "vit_cifar": {"drop_path": 0.5}}
    for name, options in cases.items():
        network = models.build(name, num_classes=2, image_size=32, **options).train()
        plain = models.build(name, num_classes=2, image_size=32)
        images = torch.randn(4, 3, 32, 32)
        with torch.no_grad():
            assert not torch.allclose(network(images), network(images))
            plain.load_state_dict(network.state_dict())
            assert torch.allclose(plain.eval()(images), network.eval()(images))


def test_lrn_follows_the_formula_of_the_paper() -> None:
    from models.alexnet import LocalResponseNorm

    x = torch.randn(2, 7, 3, 3)
    expected = torch.empty_like(x)
    for i in range(7):
        squares = (x[:, max(0, i - 2) : min(6, i + 2) + 1] ** 2).sum(1)
        expected[:, i] = x[:, i] / (2 + 1e-4 * squares) ** 0.75
    assert torch.allclose(LocalResponseNorm()(x), expected, atol=1e-6)
