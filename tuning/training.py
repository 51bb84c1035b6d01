"""Training one classifier: `Training.run()` yields the metrics of each epoch. Plain PyTorch, knows no Ray."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from datasets import Splits
from tuning import team
from tuning.augment import augment, mix
from tuning.classifier import Format, Normalised, free, predict
from tuning.loader import Loader
from tuning.optimizer import average, make_optimizer
from tuning.schedule import lr_factor
from tuning.scores import as_targets, hits, loss_of, score_of
from tuning.seeds import derive_seed
from tuning.spec import HParams

SMALLEST_PART = 2  # images; batch norm cannot train on one
CHECK_EVERY = 50  # steps between looks at the loss on a GPU, where each look waits for the device


class Diverged(Exception):
    """The loss is no longer finite; the training cannot recover."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss became infinite or NaN in epoch {epoch}")
        self.epoch = epoch


class OutOfMemory(Exception):
    """The network cannot be trained on this device, however few images it sees at once."""


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
    micro_batch: int  # images that went through the network at once: fewer than a process's where these did not fit


METRICS = tuple(field.name for field in dataclasses.fields(EpochMetrics))


class Training:
    """The training of `network` on `splits`, able to stop after any epoch and go on from its `state()`.

    Every random choice follows from `(seed, epoch)`, so that a resumed training equals one never stopped. In a process
    group all its processes run the same training, each on its part of every batch, see `tuning.team`.
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
        self.team = team.current()
        self.micro_batch = self.team.largest_part(hparams.batch_size)
        self.gpu_memory = 0  # bytes, the most that a process of this training has held
        if self.team.size * SMALLEST_PART > hparams.batch_size or self.team.size > len(splits.val):
            raise ValueError(f"batch_size {hparams.batch_size} is too small for {self.team.size} processes")
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
            OutOfMemory: not even parts of a batch fit into the device's memory.
        """
        self._start_alike()
        while self.epoch < self.epochs:
            start = time.perf_counter()
            lr, loss, accuracy, images = self._train_epoch()
            trained = time.perf_counter() - start
            val_loss, score, top5 = self.validate()
            if not math.isfinite(val_loss):
                raise Diverged(self.epoch + 1)
            self.epoch += 1
            self.val_losses.append(val_loss)
            if self.device.type == "cuda":
                self.gpu_memory = int(self.team.most(torch.cuda.max_memory_allocated(self.device)))
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
                micro_batch=self.micro_batch,
            )

    @cached_property
    def train_loader(self) -> Loader:
        return Loader(self.splits.train, self.device)

    @cached_property
    def val_loader(self) -> Loader:
        """Of this process's part of the validation images."""
        val = self.splits.val
        return Loader(val.take(torch.arange(len(val))[self.team.part(len(val))].numpy()), self.device)

    def validate(self) -> tuple[float, float, float]:
        """Loss, score, and share of right answers among the five highest, on the validation images."""
        own = predict(self.evaluated, self.val_loader, self.format)
        logits, labels = (self.team.all_rows(rows, len(self.splits.val)) for rows in own)
        loss = loss_of(logits, labels if labels.ndim == 1 else as_targets(labels, logits.shape[1]), self.splits.task, 0)
        return loss.item(), score_of(logits, labels), hits(logits, labels, k=5).double().mean().item()

    def _train_epoch(self) -> tuple[float, float, float, int]:
        """Last rate, mean loss, accuracy and number of images of one pass; the remainder of a batch is left out."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", self.epoch))
        self.model.train()
        size = self.hparams.batch_size
        steps = len(self.train_loader) // size
        order = torch.randperm(len(self.train_loader), generator=generator)[: steps * size].view(steps, size)
        mates = (self.team.rank,) if self.team.rank else ()  # the first draws as if it were alone
        torch.manual_seed(derive_seed(self.seed, "dropout", self.epoch, *mates))
        if mates:
            generator.manual_seed(derive_seed(self.seed, "epoch", self.epoch, *mates))
        loss_sum, correct, lr = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0.0
        look = 1 if self.device.type == "cpu" else CHECK_EVERY
        for step, (images, labels) in enumerate(self.train_loader.batches(order[:, self.team.part(size)])):
            lr = self._set_lr(self.epoch * steps + step, steps)
            loss, right = self.step(images, labels, generator)
            if self.averaged:
                average(self.averaged, self.model, self.hparams.ema_decay, self.epoch * steps + step)
            loss_sum += loss
            correct += right
            if (step % look == 0 or step == steps - 1) and not math.isfinite(loss_sum.item()):
                raise Diverged(self.epoch + 1)
        for model in filter(None, (self.model, self.averaged)):
            self.team.average_(list(model.network.buffers()))
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
        loss, right = self._gradients(inputs, targets, labels)
        if hparams.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), hparams.clip_norm)
        self.optimizer.step()
        return loss, right

    def _gradients(self, inputs: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and right answers of a batch, and its gradients: in parts that add up to it where it does not fit."""
        while True:
            shared = self._attempt(inputs, targets, labels)
            fits = not self.team.most(shared is None)  # in any of the processes
            if fits and shared:
                self.team.add_(*shared)
                return shared[0][0], shared[0][1]
            if self.micro_batch <= SMALLEST_PART:
                size = " x ".join(map(str, inputs.shape[1:]))
                raise OutOfMemory(f"not even {self.micro_batch} images of {size} fit into {self.device}")
            self.micro_batch = max(math.ceil(self.micro_batch / 2), SMALLEST_PART)
            del shared  # with the tensors of a pass that others could not do
            free(self.device)

    def _attempt(self, inputs: Tensor, targets: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor | None] | None:
        """Loss, right answers and gradients of this process's part of a batch, packed; None if that does not fit."""
        count = math.ceil(len(inputs) / self.micro_batch)
        whole = len(inputs) if self.team.size == 1 else self.hparams.batch_size
        self.optimizer.zero_grad(set_to_none=True)
        try:
            parts = zip(*(tensor.tensor_split(count) for tensor in (inputs, targets, labels)), strict=True)
            losses, right = zip(*(self._part(x, y, known, whole) for x, y, known in parts), strict=True)
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            shared = [torch.stack(losses).sum(), torch.stack(right).sum(), *gradients]
            return shared, self.team.pack(shared)
        except torch.OutOfMemoryError:
            return None

    def _part(self, inputs: Tensor, targets: Tensor, labels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Adds the gradients of some images of a batch of so many."""
        hparams, task = self.hparams, self.splits.task
        with self.format.autocast(self.device):
            outputs = self.model.network(inputs)
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = loss_of(logits.float(), targets, task, hparams.label_smoothing)
        for head in auxiliary:
            loss = loss + hparams.aux_weight * loss_of(head.float(), targets, task, hparams.label_smoothing)
        loss = loss * (len(inputs) / batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), hits(logits.detach(), labels).sum()

    def _set_lr(self, step: int, steps_per_epoch: int) -> float:
        progress = (step + 1) / (self.epochs * steps_per_epoch + 1)  # neither the first nor the last step has rate 0
        lr = self.hparams.lr * lr_factor(self.hparams, progress, self.val_losses)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _start_alike(self) -> None:
        """All processes go on from the state of the first, which alone may have been restored."""
        if self.team.size > 1:
            tensors, meta = self.state()
            first = self.team.of_first(({name: tensor.cpu() for name, tensor in tensors.items()}, meta))
            self.restore({name: tensor.to(self.device) for name, tensor in first[0].items()}, first[1])

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
        return tensors, {"epoch": self.epoch, "val_losses": self.val_losses, "micro_batch": self.micro_batch}

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
        self.micro_batch = min(int(meta["micro_batch"]), self.micro_batch)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
