"""Training one classifier: `Training.run()` yields the metrics of each epoch. Plain PyTorch, knows no Ray."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets import Splits
from tuning.augment import augment, mix
from tuning.loader import Loader
from tuning.schedule import lr_factor
from tuning.scores import as_targets, hits, loss_of, score_of
from tuning.spec import HParams

EVAL_BATCH = 512
CHECK_EVERY = 50  # steps between looks at the loss on a GPU, where each look waits for the device


class Diverged(Exception):
    """The loss is no longer finite; the training cannot recover."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss became infinite or NaN in epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What one epoch showed. Accuracies are shares in [0, 1]; those of train are of augmented images.

    Where images have several labels, a right answer is any of them, and `val_accuracy` the mean average precision.
    """

    epoch: int  # 1 after the first
    lr: float  # at the epoch's last step
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_top5_accuracy: float  # top-k where there are fewer than 5 classes
    images_per_second: float  # of training alone
    seconds: float


METRICS = tuple(field.name for field in dataclasses.fields(EpochMetrics))


@dataclass(frozen=True, kw_only=True)
class Format:
    """How numbers are held and images laid out in memory: the speed of a training, hardly its result."""

    precision: str = "float32"  # or bfloat16
    memory_format: str = "contiguous"  # or channels_last

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


class Normalised(nn.Module):
    """A classifier of raw images: uint8 (B, C, H, W) -> logits, the normalisation being part of it."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images -> float32 of mean 0 and deviation 1 over the training set."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        return (images.float() - self.mean) / self.std


def derive_seed(*keys: int | str) -> int:
    """A seed for the purpose that the keys name, unrelated to the seeds of all other purposes."""
    return int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:8], "big") >> 1


class Training:
    """The training of `network` on `splits`, able to stop after any epoch and go on from its `state()`.

    Every random choice follows from `(seed, epoch)`, so that a resumed training equals one never stopped.
    """

    def __init__(
        self,
        network: nn.Module,
        hparams: HParams,
        splits: Splits,
        *,
        epochs: int,
        seed: int,
        device: str = "cpu",
        format: Format | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.format = format or Format()
        self.hparams, self.splits, self.epochs, self.seed = hparams, splits, epochs, seed
        self.model = Normalised(network, splits.mean, splits.std).to(self.device).to(memory_format=self.format.layout)
        self.optimizer = make_optimizer(self.model, hparams)
        self.averaged: Normalised | None = copy.deepcopy(self.model) if hparams.ema_decay else None
        self.epoch = 0
        self.val_losses: list[float] = []
        if hparams.batch_size > len(splits.train):
            raise ValueError(f"batch_size {hparams.batch_size} exceeds the {len(splits.train)} training images")

    @property
    def evaluated(self) -> Normalised:
        """The model that validation sees: the averaged one if there is one."""
        return self.averaged or self.model

    def run(self) -> Iterator[EpochMetrics]:
        """Trains the epochs that are left, yielding after each.

        Raises:
            Diverged: the loss of a step, or of the validation, is no longer finite.
        """
        while self.epoch < self.epochs:
            start = time.perf_counter()
            lr, loss, accuracy, images = self._train_epoch()
            trained = time.perf_counter() - start
            val_loss, score, top5 = self.validate()
            if not math.isfinite(val_loss):
                raise Diverged(self.epoch + 1)
            self.epoch += 1
            self.val_losses.append(val_loss)
            yield EpochMetrics(
                epoch=self.epoch,
                lr=lr,
                train_loss=loss,
                train_accuracy=accuracy,
                val_loss=val_loss,
                val_accuracy=score,
                val_top5_accuracy=top5,
                images_per_second=images / trained,
                seconds=time.perf_counter() - start,
            )

    @cached_property
    def train_loader(self) -> Loader:
        return Loader(self.splits.train, self.device)

    @cached_property
    def val_loader(self) -> Loader:
        return Loader(self.splits.val, self.device)

    def validate(self) -> tuple[float, float, float]:
        """Loss, score, and share of right answers among the five highest, on the validation images."""
        logits, labels = predict(self.evaluated, self.val_loader, self.format)
        loss = loss_of(logits, labels if labels.ndim == 1 else as_targets(labels, logits.shape[1]), self.splits.task, 0)
        return loss.item(), score_of(logits, labels), hits(logits, labels, k=5).double().mean().item()

    def _train_epoch(self) -> tuple[float, float, float, int]:
        """Last rate, mean loss, accuracy and number of images of one pass; the remainder of a batch is left out."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", self.epoch))
        torch.manual_seed(derive_seed(self.seed, "dropout", self.epoch))
        self.model.train()
        size = self.hparams.batch_size
        steps = len(self.train_loader) // size
        order = torch.randperm(len(self.train_loader), generator=generator)[: steps * size].view(steps, size)
        loss_sum, correct, lr = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0.0
        look = 1 if self.device.type == "cpu" else CHECK_EVERY
        for step, (images, labels) in enumerate(self.train_loader.batches(order)):
            lr = self._set_lr(self.epoch * steps + step, steps)
            loss, right = self.step(images, labels, generator)
            if self.averaged:
                average(self.averaged, self.model, self.hparams.ema_decay, self.epoch * steps + step)
            loss_sum += loss
            correct += right
            if (step % look == 0 or step == steps - 1) and not math.isfinite(loss_sum.item()):
                raise Diverged(self.epoch + 1)
        return lr, loss_sum.item() / steps, correct.item() / (steps * size), steps * size

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One optimiser step on uint8 images: its loss and the number of right answers, both still on the device."""
        hparams = self.hparams
        images = augment(images, hparams, generator)
        inputs = self.model.normalise(images).contiguous(memory_format=self.format.layout)
        mixed = hparams.mixup > 0 or hparams.cutmix > 0
        targets = as_targets(labels, len(self.splits.classes)) if mixed or labels.ndim > 1 else labels
        if mixed:
            inputs, targets = mix(inputs, targets, hparams, generator)
        with self.format.autocast(self.device):
            outputs = self.model.network(inputs)
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = loss_of(logits.float(), targets, self.splits.task, hparams.label_smoothing)
        for head in auxiliary:
            loss = loss + hparams.aux_weight * loss_of(head.float(), targets, self.splits.task, hparams.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if hparams.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), hparams.clip_norm)
        self.optimizer.step()
        return loss.detach(), hits(logits.detach(), labels).sum()

    def _set_lr(self, step: int, steps_per_epoch: int) -> float:
        progress = (step + 1) / (self.epochs * steps_per_epoch + 1)  # neither the first nor the last step has rate 0
        lr = self.hparams.lr * lr_factor(self.hparams, progress, self.val_losses)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def weights(self) -> dict[str, Tensor]:
        """The state dict of the network that validation saw."""
        return self.evaluated.network.state_dict()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that `restore` needs: tensors by name, and the rest as JSON."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items() if value is not None}
        if self.averaged:
            tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        return tensors, {"epoch": self.epoch, "val_losses": self.val_losses}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Goes back to a `state()` of a training with the same arguments."""
        self.model.load_state_dict(_below("model.", tensors))
        optimizer = self.optimizer.state_dict()
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer.", tensors).items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict({"state": slots, "param_groups": optimizer["param_groups"]})
        if self.averaged:
            self.averaged.load_state_dict(_below("averaged.", tensors))
        self.epoch, self.val_losses = int(meta["epoch"]), list(meta["val_losses"])


def make_optimizer(model: nn.Module, hparams: HParams) -> Optimizer:
    """The optimiser that `hparams` names; norms and biases do not decay."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": hparams.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if hparams.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=hparams.lr, momentum=hparams.momentum, nesterov=hparams.momentum > 0)
    if hparams.optimizer == "rmsprop":  # decay and, by default, epsilon as in the EfficientNet paper's code
        eps = 1e-3 if hparams.eps is None else hparams.eps
        return torch.optim.RMSprop(groups, lr=hparams.lr, alpha=0.9, eps=eps, momentum=hparams.momentum)
    kind = torch.optim.AdamW if hparams.optimizer == "adamw" else torch.optim.Adam
    eps = 1e-8 if hparams.eps is None else hparams.eps
    return kind(groups, lr=hparams.lr, betas=(hparams.momentum, 0.999), eps=eps)


@torch.inference_mode()
def predict(model: nn.Module, loader: Loader, format: Format) -> tuple[Tensor, Tensor]:
    """Float logits (N, classes) of a `Normalised` model for all images, with their labels."""
    model.eval()
    logits = []
    for images, _ in loader.in_order(EVAL_BATCH):
        with format.autocast(images.device):
            logits.append(model(images.contiguous(memory_format=format.layout)).float())
    return torch.cat(logits), loader.labels


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Moves `averaged` towards `model`: by more after few steps, so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)
    for old, new in zip(averaged.buffers(), model.buffers(), strict=True):
        old.copy_(new)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
