"""What the user asks for (`StudySpec`) and what the searcher chooses (`HParams`)."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import models
from search_spaces import limits
from tuning.objectives import ACCURACY, Objectives, parse

BASELINE = 0  # the trial number of the (first) published recipe
MODEL = "model"  # the key of the architecture in a configuration, where a study has several
AUTO = "auto"  # as `warm_start`: whatever earlier studies are alike; as `gpus_per_trial`: what a probe finds
METRIC = ACCURACY  # of the best epoch; what a study maximises
SAMPLERS = ("tpe", "random", "gp", "cmaes", "grid")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
FINALS = re.compile(r"([1-9]\d?)x([1-9]\d?)")


@dataclass(frozen=True, kw_only=True)
class HParams:
    """The hyperparameters of one training, valid once constructed; `search_spaces.limits` holds the allowed values."""

    lr: float
    optimizer: str = "sgd"  # sgd has Nesterov momentum
    momentum: float = 0.9  # of sgd and rmsprop, the first beta of adam and adamw
    eps: float | None = None  # of rmsprop, adam and adamw; None: the optimiser's own
    weight_decay: float = 0.0  # not on norms and biases
    batch_size: int = 128
    schedule: str = "cosine"
    warmup: float = 0.0  # linear, a share of all steps
    step_start: float = 0.5  # the share of all steps before the first drop of the step schedule
    step_every: float = 0.25  # the share of all steps between drops
    step_gamma: float = 0.1  # what a drop multiplies the rate by, also for plateau
    plateau_patience: int = 2  # epochs without a better validation loss before a drop
    label_smoothing: float = 0.0
    clip_norm: float = 0.0  # of all gradients together; 0: off
    ema_decay: float = 0.0  # of the averaged weights that are validated in place of the last; 0: off
    aux_weight: float = 0.0  # of the loss of each auxiliary head; 0: built without them
    augmentation: str = "none"
    crop_scale: float = 0.35  # of resized_crop_flip: the smallest share of an image's area that it enlarges; 1: off
    jitter: float = 0.0  # how far the factors of brightness, contrast and saturation may lie from 1
    policy: str = "none"  # what happens to colours and shapes after crop and flip
    policy_ops: int = 2  # operations an image, of rand_augment
    policy_magnitude: float = 9.0  # of rand_augment, on its scale from 0 to 30
    erasing: float = 0.0  # the share of images with a random box erased
    cutout: float = 0.0  # the side of a black square in every image, as a share of the image's side
    mixup: float = 0.0  # a of Beta(a, a); 0: off
    cutmix: float = 0.0  # likewise; with both, each batch gets one of them
    # How the architecture is built; None: as it is by default.
    init: str | None = None
    dropout: float | None = None
    dropout2d: float | None = None
    drop_path: float | None = None
    norm: str | None = None
    stem: str | None = None
    head_width: int | None = None
    se_ratio: int | None = None
    growth_rate: int | None = None
    width: float | None = None
    groups: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                object.__setattr__(self, name, limits.check(name, value))

    @property
    def model_options(self) -> dict[str, Any]:
        """The options for `models.build`."""
        return model_options(vars(self))


def model_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that concerns how the architecture is built."""
    options = {name: config[name] for name in limits.MODEL_OPTIONS if config.get(name) is not None}
    return {**options, "aux": True} if config.get("aux_weight") else options


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study: which architecture on which data, with which budget; valid once constructed.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """

    model: str
    rivals: tuple[str, ...] = ()  # further architectures that share the budget
    dataset: str = "digits"
    data_dir: str = "data"
    trials: int = 12
    epochs: int = 9
    time_budget: float | None = None  # seconds of search, those of earlier runs of the study included
    epoch_budget: int | None = None  # epochs of all trials together
    gpu_hours: float | None = None  # the time that trials run times the GPUs that they hold, of all trials together
    seed: int = 0
    name: str
    finals: str = "1x1"  # KxS: the K best, each over S fresh seeds; 1x1 takes the search's own checkpoints
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | str | None = None  # None: one where there are any; auto: as many share one as do well
    max_share: float = 1.0  # of the cluster, for the trials that run at once
    address: str = "local"
    tracking_uri: str = "sqlite:///mlflow.db"
    results_dir: str = "results"
    image_size: int | None = None  # None: the data set's own, or the next that the architecture can take
    val_fraction: float = 0.1
    train_images: int | None = None  # about how many images to train on; None: all
    store_share: float = datasets.STORE_SHARE  # of free disk and memory; larger image files are decoded in each epoch
    scheduler: str = "asha"
    sampler: str = "gp"
    grace_epochs: int | None = None  # None: a third of the epochs, a ninth in long studies
    reduction_factor: float = 3.0
    brackets: int = 1  # of asha: trials of the second are first compared at the second rung, and so on
    spare_noise: bool = False  # cut no trial by less than the validation images could be to blame for
    audit: float = 0.03  # the share of stopped trials that go on to the end, to show what stopping them would have cost
    objectives: str = ACCURACY  # and others to trade it against, by comma
    constraints: str = ""  # such as latency_ms<5,parameters<5e6
    precision: str = "auto"
    memory_format: str = "auto"
    warm_start: str | None = None  # studies in results_dir to learn from, NAME[,NAME], or auto
    seeds: int | None = None  # of each level of a one-factor study; None: as its file says

    def __post_init__(self) -> None:
        object.__setattr__(self, "rivals", tuple(self.rivals))  # JSON has lists
        for model in self.architectures:
            models.architecture(model)
        if len(set(self.architectures)) < len(self.architectures):
            raise ValueError(f"--model names an architecture twice: {', '.join(self.architectures)}; name each once")
        datasets.check(self.dataset, self.data_dir)
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name must be letters, digits, '_', '.', '-', at most 100, got {self.name!r}")
        _whole("trials", self.trials, 1, 100_000)
        if self.trials < len(self.architectures):
            raise ValueError(
                f"trials must be at least {len(self.architectures)}, the published recipe of each architecture, "
                f"got {self.trials!r}"
            )
        self._check_budgets()
        self._check_data()
        self._check_search()
        self._check_goals()
        if not FINALS.fullmatch(self.finals):
            raise ValueError(f"finals must be KxS, such as 3x5 for the 3 best over 5 seeds, got {self.finals!r}")
        if not self.results_dir or not self.tracking_uri:
            raise ValueError("results_dir and tracking_uri must not be empty")

    def _check_budgets(self) -> None:
        """How much, and on what."""
        _whole("epochs", self.epochs, 1, 100_000)
        _whole("seed", self.seed, 0, 2**32 - 1)
        if self.time_budget is not None:
            _number("time_budget", self.time_budget, 1, 10**8)
        if self.epoch_budget is not None:
            _whole("epoch_budget", self.epoch_budget, 1, 10**9)
        if self.gpu_hours is not None:
            _number("gpu_hours", self.gpu_hours, 0.001, 10**7)
            if self.gpus_per_trial == 0:
                raise ValueError("gpu_hours counts GPUs, but gpus_per_trial is 0; take epoch_budget or time_budget")
        _number("cpus_per_trial", self.cpus_per_trial, 0.01, 1024)
        if isinstance(self.gpus_per_trial, str):
            _choice("gpus_per_trial", self.gpus_per_trial, (AUTO,))
        elif self.gpus_per_trial is not None:
            _number("gpus_per_trial", self.gpus_per_trial, 0, 64)
            if 0 < self.gpus_per_trial < 0.01:
                raise ValueError(f"gpus_per_trial must be 0 or at least 0.01, got {self.gpus_per_trial!r}")
            if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
                raise ValueError(f"gpus_per_trial above 1 must be whole, such as 2, got {self.gpus_per_trial!r}")
        _number("max_share", self.max_share, 0.001, 1)

    def _check_data(self) -> None:
        if self.image_size is not None:
            _whole("image_size", self.image_size, 1, 2048)
        _number("val_fraction", self.val_fraction, 0.01, 0.9)
        if self.train_images is not None:
            _whole("train_images", self.train_images, 2, 10**9)
        _number("store_share", self.store_share, 0, 1)

    def _check_search(self) -> None:
        if self.seeds is not None:
            _whole("seeds", self.seeds, 1, 1000)
        if self.warm_start is not None and not all(map(NAME.fullmatch, self.warm_start.split(","))):
            raise ValueError(f"warm_start must be auto or names of studies, NAME[,NAME], got {self.warm_start!r}")
        if self.grace_epochs is not None:
            _whole("grace_epochs", self.grace_epochs, 1, self.epochs)
        _number("reduction_factor", self.reduction_factor, 1.5, 100)
        if self.scheduler == "pbt":
            raise ValueError(
                "scheduler pbt changes hyperparameters while it trains: no configuration to keep; use asha"
            )
        _choice("scheduler", self.scheduler, ("asha", "hyperband", "median", "none"))
        _whole("brackets", self.brackets, 1, 100)
        if self.brackets > 1 and self.scheduler != "asha":
            raise ValueError(f"brackets are asha's, got {self.brackets} with scheduler {self.scheduler!r}")
        _number("audit", self.audit, 0, 1)
        if not isinstance(self.spare_noise, bool):
            raise ValueError(f"spare_noise must be true or false, got {self.spare_noise!r}")
        _choice("sampler", self.sampler, SAMPLERS)
        _choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        _choice("memory_format", self.memory_format, ("auto", "contiguous", "channels_last"))

    def _check_goals(self) -> None:
        """That all parts take several objectives, or several architectures, where these are asked for."""
        if not self.goals.plain:
            for name, value, other in (
                ("scheduler", "median", "asha"), ("sampler", "cmaes", "gp"), ("spare_noise", True, False),
            ):  # fmt: skip
                if getattr(self, name) == value:
                    raise ValueError(f"{name} {value} compares one number, not {self.goals}; use {name}={other}")
        if self.rivals and str(self.goals) != METRIC:
            raise ValueError(
                "several architectures share a budget by validation accuracy only; give one --model, "
                "or leave objectives and constraints out"
            )
        if self.rivals and self.sampler == "grid":
            raise ValueError("sampler grid ends with its grid, so it cannot share a budget; give one --model")

    @property
    def architectures(self) -> tuple[str, ...]:
        """All that are tuned, in the order of their published recipes, which are the first trials."""
        return (self.model, *self.rivals)

    @property
    def recipes(self) -> frozenset[int]:
        """The numbers of the trials that train a published recipe; none of them is stopped early."""
        return frozenset(range(BASELINE, BASELINE + len(self.architectures)))

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, ascending; the last is the full length."""
        return rungs(self.epochs, self.grace_epochs, self.reduction_factor)

    @property
    def stops_early(self) -> bool:
        """Whether any trial may be stopped before its last epoch for what others scored."""
        return self.scheduler != "none" and len(self.rungs) > 1

    @property
    def goals(self) -> Objectives:
        """What `objectives` and `constraints` say."""
        return parse(self.objectives, self.constraints)

    @property
    def finalists(self) -> tuple[int, int]:
        """K and S of `finals`."""
        match = FINALS.fullmatch(self.finals)
        assert match
        return int(match[1]), int(match[2])


def rungs(epochs: int, grace_epochs: int | None, reduction_factor: float) -> tuple[int, ...]:
    """From the full length downwards, each rung `reduction_factor` times shorter, none below the grace epochs.

    Few rungs by default: an early first rung cuts the strongly regularised configurations that start slowly
    and end best, which costs more than it saves (shared/DESIGN.md).
    """
    grace = grace_epochs or max(1, epochs // (9 if epochs >= 27 else 3))
    levels = [epochs]
    while (below := round(epochs / reduction_factor ** len(levels))) >= grace:
        if below < levels[-1]:
            levels.append(below)
        else:
            break
    if grace < levels[-1] and grace_epochs:
        levels.append(grace)
    return tuple(reversed(levels))


def from_json(fields: Mapping[str, Any]) -> StudySpec:
    """The spec that `dataclasses.asdict` wrote; a `ValueError` naming fields that this version does not know."""
    known = {field.name for field in dataclasses.fields(StudySpec)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"study.json has fields that this version does not know: {', '.join(unknown)}")
    return StudySpec(**fields)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low:,} to {high:,}, got {value!r}")


def _number(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number from {low:,} to {high:,}, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:,} to {high:,}, got {value!r}")


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
