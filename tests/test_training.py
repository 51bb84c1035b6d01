"""Training: repeated runs are identical, a resumed run equals one never stopped, divergence ends it."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import datasets
from datasets import Splits
from tuning.classifier import Format
from tuning.optimizer import average, make_optimizer
from tuning.seeds import derive_seed
from tuning.spec import HParams
from tuning.training import Diverged, EpochMetrics, OutOfMemory, Training

EVERYTHING = {
    "augmentation": "crop_flip",
    "erasing": 0.5,
    "mixup": 0.2,
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "clip_norm": 1.0,
    "warmup": 0.1,
    "weight_decay": 1e-4,
}
RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1, "optimizer": "sgd"},
    "sgd without momentum": {"lr": 0.1, "optimizer": "sgd", "momentum": 0.0},
    "adamw, plateau": {"lr": 0.001, "optimizer": "adamw", "schedule": "plateau", "plateau_patience": 0},
    "rmsprop, step, everything": {"lr": 0.003, "optimizer": "rmsprop", "schedule": "step", **EVERYTHING},
}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load("digits", root="unused")


def network(splits: Splits) -> nn.Module:
    """Small, but with a batch norm and a dropout: what makes exact resumption hard."""
    torch.manual_seed(3)
    pixels = splits.channels * splits.image_size**2
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)
    )


def training(splits: Splits, recipe: dict[str, Any], epochs: int = 4, **options: Any) -> Training:
    hparams = HParams(**{"batch_size": 64, **recipe})
    return Training(network(splits), hparams, splits, epochs=epochs, seed=7, **options)


def numbers(metrics: EpochMetrics) -> dict[str, Any]:
    """Without what depends on the clock."""
    return {k: v for k, v in dataclasses.asdict(metrics).items() if k not in ("seconds", "images_per_second")}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_repeated_training_gives_identical_numbers(splits: Splits, recipe: dict[str, Any]) -> None:
    first, second = (training(splits, recipe) for _ in range(2))
    assert [numbers(m) for m in first.run()] == [numbers(m) for m in second.run()]
    assert all(torch.equal(value, second.weights()[name]) for name, value in first.weights().items())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_resumed_training_equals_one_never_stopped(splits: Splits, recipe: dict[str, Any]) -> None:
    whole = training(splits, recipe)
    expected = [numbers(m) for m in whole.run()]
    stopped = training(splits, recipe)
    run = stopped.run()
    seen = [numbers(next(run)), numbers(next(run))]
    tensors, meta = stopped.state()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    torch.manual_seed(999)  # another process would have other global numbers
    resumed = training(splits, recipe)
    resumed.restore(saved, meta)
    seen += [numbers(m) for m in resumed.run()]
    assert seen == expected
    assert all(torch.equal(value, resumed.weights()[name]) for name, value in whole.weights().items())


def test_another_seed_gives_other_numbers(splits: Splits) -> None:
    one = training(splits, RECIPES["sgd"])
    other = training(splits, RECIPES["sgd"])
    other.seed = 8
    assert numbers(next(one.run())) != numbers(next(other.run()))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_learns(splits: Splits, recipe: dict[str, Any]) -> None:
    metrics = list(training(splits, {**recipe, "augmentation": "none", "erasing": 0.0}, epochs=6).run())
    assert [m.epoch for m in metrics] == [1, 2, 3, 4, 5, 6]
    assert metrics[-1].val_accuracy > 0.85
    assert metrics[-1].val_top5_accuracy >= metrics[-1].val_accuracy
    assert metrics[-1].train_loss < metrics[0].train_loss


def test_a_loss_that_is_not_finite_ends_the_training_in_its_epoch(splits: Splits) -> None:
    with pytest.raises(Diverged) as caught:
        list(training(splits, {"lr": 100.0, "weight_decay": 10.0, "momentum": 0.99}, epochs=50).run())
    assert 1 <= caught.value.epoch < 50


class BlowsUpInEvaluation(nn.Linear):
    """As a batch norm whose running statistics have overflowed."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x.flatten(1))
        return out if self.training else out * float("inf")


def test_a_validation_loss_that_is_not_finite_ends_the_training_too(splits: Splits) -> None:
    run = Training(BlowsUpInEvaluation(64, 10), HParams(lr=0.1), splits, epochs=3, seed=0)
    with pytest.raises(Diverged, match="in epoch 1"):
        list(run.run())


def test_metrics_are_those_of_the_validation_set(splits: Splits) -> None:
    run = training(splits, RECIPES["sgd"], epochs=1)
    metrics = next(run.run())
    model = run.evaluated.eval()
    with torch.no_grad():
        logits = model(torch.tensor(splits.val.images))
    labels = torch.tensor(splits.val.labels)
    assert metrics.val_accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert metrics.val_loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    top5 = (logits.topk(5).indices == labels[:, None]).any(1).float().mean().item()
    assert metrics.val_top5_accuracy == pytest.approx(top5)


def test_validation_leaves_the_model_as_it_was(splits: Splits) -> None:
    run = training(splits, RECIPES["sgd"], epochs=1)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.validate() == run.validate()
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    for name in ("sgd", "adamw", "rmsprop"):
        decayed, rest = make_optimizer(model, HParams(lr=0.1, optimizer=name, weight_decay=0.01)).param_groups
        assert {p.ndim for p in decayed["params"]} == {2, 4}
        assert {p.ndim for p in rest["params"]} == {1}
        assert (decayed["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)


def test_clipping_bounds_the_step(splits: Splits) -> None:
    run = training(splits, {"lr": 1.0, "momentum": 0.0, "clip_norm": 1e-3})
    before = torch.cat([p.detach().flatten().clone() for p in run.model.parameters()])
    images, labels = torch.tensor(splits.train.images[:64]), torch.tensor(splits.train.labels[:64])
    run.step(images, labels, torch.Generator())
    after = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=0.01)


def test_averaged_weights_are_between_old_and_new() -> None:
    old, new = nn.Linear(2, 2), nn.Linear(2, 2)
    start, end = old.weight.detach().clone(), new.weight.detach()
    average(old, new, decay=0.75, step=10**6)
    assert torch.allclose(old.weight, 0.75 * start + 0.25 * end)
    average(old, new, decay=0.75, step=0)  # at the first step a tenth of the old is left
    assert torch.allclose(old.weight, 0.1 * (0.75 * start + 0.25 * end) + 0.9 * end)


def test_a_batch_larger_than_the_data_is_refused(splits: Splits) -> None:
    with pytest.raises(ValueError, match="batch_size 4096 exceeds the 1295 training images"):
        training(splits, {"lr": 0.1, "batch_size": 4096})


def test_formats_change_the_speed_not_the_result(splits: Splits) -> None:
    plain, other = (
        list(training(splits, RECIPES["sgd"], format=Format(memory_format=name)).run())
        for name in ("contiguous", "channels_last")
    )
    assert other[-1].val_accuracy == pytest.approx(plain[-1].val_accuracy, abs=0.05)


def test_shared_images_are_not_written(splits: Splits) -> None:
    before = splits.train.pixels.tobytes()  # type: ignore[union-attr]
    list(training(splits, {"lr": 0.003, "optimizer": "rmsprop", **EVERYTHING}, epochs=1).run())
    assert splits.train.pixels.tobytes() == before  # type: ignore[union-attr]


def test_seeds_for_different_purposes_differ() -> None:
    seeds = {
        derive_seed(0, "epoch", 1),
        derive_seed(0, "epoch", 2),
        derive_seed(1, "epoch", 1),
        derive_seed(0, "dropout", 1),
    }
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


class Hungry(nn.Module):
    """Takes so many images at once, as a device with little memory would."""

    def __init__(self, splits: Splits, most: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        pixels = splits.channels * splits.image_size**2
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 32), nn.ReLU(), nn.Linear(32, 10))
        self.most, self.seen = most, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seen.append(len(images))
        return self.layers(images)  # type: ignore[no-any-return]


def hungry(splits: Splits, most: int, **recipe: Any) -> Training:
    hparams = HParams(**{"lr": 0.1, "batch_size": 60, "momentum": 0.9, **recipe})
    return Training(Hungry(splits, most), hparams, splits, epochs=2, seed=7)


@pytest.mark.parametrize("recipe", [{}, {"mixup": 0.3, "label_smoothing": 0.1, "clip_norm": 0.5}])
def test_what_does_not_fit_is_trained_in_parts_with_the_same_result(splits: Splits, recipe: dict[str, Any]) -> None:
    whole, parts = hungry(splits, 10**6, **recipe), hungry(splits, 17, **recipe)
    for expected, seen in zip(whole.run(), parts.run(), strict=True):
        assert (expected.micro_batch, seen.micro_batch) == (60, 15)
        assert seen.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
        assert seen.val_loss == pytest.approx(expected.val_loss, rel=1e-3)
    assert isinstance(parts.model.network, Hungry)
    assert max(parts.model.network.seen) <= 17
    for name, value in whole.weights().items():
        torch.testing.assert_close(parts.weights()[name], value, rtol=1e-3, atol=1e-4)


def test_parts_stay_small_after_a_resume(splits: Splits) -> None:
    stopped = hungry(splits, 17)
    next(stopped.run())
    resumed = hungry(splits, 17)
    resumed.restore(*stopped.state())
    assert resumed.micro_batch == 15
    assert [m.epoch for m in resumed.run()] == [2]


def test_a_network_that_never_fits_says_so(splits: Splits) -> None:
    with pytest.raises(OutOfMemory, match="not even 2 images of 1 x 8 x 8 fit into cpu"):
        next(hungry(splits, 1).run())
