"""Losses and scores of a classifier, for images of one label and for images of several."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import Task

RESAMPLES = 200  # of the bootstrap; its error is a twentieth of the standard error


def as_targets(labels: Tensor, classes: int) -> Tensor:
    """Labels (B,), or (B, classes) with -1 where nothing is to be said -> float targets (B, classes), NaN there."""
    if labels.ndim == 1:
        return F.one_hot(labels, classes).float()
    return labels.float().masked_fill(labels < 0, torch.nan)


def loss_of(logits: Tensor, targets: Tensor, task: Task, smoothing: float) -> Tensor:
    """Mean cross-entropy; for several labels the binary one, over all of an image's classes that have a target.

    `targets` are class numbers (B,), or shares (B, classes) as `as_targets` gives and mixing changes them.
    """
    if task == "single":
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    counted = torch.isfinite(targets)
    smoothed = torch.nan_to_num(targets) * (1 - smoothing) + smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def hits(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """For each image whether its label, or one of its labels, is among the `k` highest logits."""
    highest = logits.topk(min(k, logits.shape[1])).indices
    if labels.ndim == 1:
        return (highest == labels[:, None]).any(1)
    return (labels.gather(1, highest) == 1).any(1)


def score_of(logits: Tensor, labels: Tensor) -> float:
    """What a study maximises: accuracy, or for several labels the mean average precision."""
    return hits(logits, labels).double().mean().item() if labels.ndim == 1 else mean_average_precision(logits, labels)


def standard_error(logits: Tensor, labels: Tensor) -> float:
    """Of `score_of`, for the choice of the images: binomial, or for several labels by a bootstrap over the images."""
    if labels.ndim == 1:
        accuracy = score_of(logits, labels)
        return math.sqrt(accuracy * (1 - accuracy) / len(labels))
    generator = torch.Generator().manual_seed(0)
    draws: Iterable[Tensor] = torch.randint(len(labels), (RESAMPLES, len(labels)), generator=generator)
    scores = [mean_average_precision(logits[rows], labels[rows]) for rows in draws]
    return torch.tensor(scores).std().item()


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Mean over the classes of the area under precision against recall, both (N, classes); labels -1 do not count.

    As Pascal VOC does since 2010: at each recall the highest precision at that recall or a higher one
    (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf, section 3.4.1). A class that no image has is
    left out; 0 if that is all of them.
    """
    areas = [
        average_precision(class_scores[counted], class_labels[counted] == 1)
        for class_scores, class_labels in zip(scores.T, labels.T, strict=True)
        if (counted := class_labels >= 0).any() and (class_labels == 1).any()
    ]
    return sum(areas) / len(areas) if areas else 0.0


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Of one class; equal scores are one step of the curve, whatever their order."""
    order = scores.argsort(descending=True)
    _, counts = torch.unique_consecutive(scores[order], return_counts=True)
    last = counts.cumsum(0) - 1  # of each run of equal scores
    found = positive[order].double().cumsum(0)[last]
    precision = found / (last + 1)
    highest = precision.flip(0).cummax(0).values.flip(0)
    gained = found.diff(prepend=found.new_zeros(1)) / positive.sum()
    return float((highest * gained).sum())
