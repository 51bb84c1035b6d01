"""Batched augmentation: every image of a batch drawn on its own, in tensor operations on the training device."""

import numpy as np
import torch
from torch import Tensor

from tuning.policies import rand_augment, trivial_augment
from tuning.spec import HParams

PAD_SHARE = 8  # a crop moves by up to 1/8 of the side: 4 of 32 pixels, as in the ResNet paper


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops (B, C, H, W) of the images padded with black by an eighth of their side."""
    batch, channels, height, width = images.shape
    pad = max(height // PAD_SHARE, 1)
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    shifts = torch.randint(0, 2 * pad + 1, (2, batch), generator=generator).to(images.device)
    rows = shifts[0, :, None] + torch.arange(height, device=images.device)  # (B, H)
    columns = shifts[1, :, None] + torch.arange(width, device=images.device)  # (B, W)
    padded = padded.gather(2, rows[:, None, :, None].expand(batch, channels, height, width + 2 * pad))
    return padded.gather(3, columns[:, None, None, :].expand(batch, channels, height, width))


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def erase(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A box of 2 to 33 % of the area, at most 1:3, set to black in a `share` of the images (Zhong et al. 2017)."""
    batch, _, height, width = images.shape
    chosen, area, aspect, top, left = torch.rand(5, batch, generator=generator).to(images.device)
    area = (0.02 + 0.31 * area) * height * width
    ratio = torch.exp((2 * aspect - 1) * torch.log(torch.tensor(3.0)))
    box_height = (area * ratio).sqrt().round().clamp(1, height)
    box_width = (area / ratio).sqrt().round().clamp(1, width)
    top, left = (top * (height - box_height + 1)).floor(), (left * (width - box_width + 1)).floor()
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    inside_rows = (rows >= top[:, None]) & (rows < (top + box_height)[:, None])  # (B, H)
    inside_columns = (columns >= left[:, None]) & (columns < (left + box_width)[:, None])  # (B, W)
    box = inside_rows[:, :, None] & inside_columns[:, None, :] & (chosen < share)[:, None, None]
    return images.masked_fill(box[:, None], 0)


def augment(images: Tensor, hparams: HParams, generator: torch.Generator) -> Tensor:
    """uint8 images (B, C, H, W) -> uint8 images: moved, then recoloured or bent by a policy, then partly blackened."""
    if hparams.augmentation in ("crop", "crop_flip"):
        images = crop(images, generator)
    if hparams.augmentation == "crop_flip":
        images = flip(images, generator)
    if hparams.policy == "rand_augment":
        images = rand_augment(images, hparams.policy_ops, hparams.policy_magnitude, generator)
    if hparams.policy == "trivial_augment":
        images = trivial_augment(images, generator)
    if hparams.erasing:
        images = erase(images, hparams.erasing, generator)
    if hparams.cutout:
        images = cutout(images, hparams.cutout, generator)
    return images


def mix(inputs: Tensor, targets: Tensor, hparams: HParams, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`mixup` or `cutmix`, whichever is on; with both on, each batch gets one of them by the toss of a coin."""
    both = hparams.mixup > 0 and hparams.cutmix > 0
    cut = bool(torch.rand((), generator=generator) < 0.5) if both else hparams.cutmix > 0
    if cut:
        return cutmix(inputs, targets, hparams.cutmix, generator)
    return mixup(inputs, targets, hparams.mixup, generator)


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image and its target (B, classes) blended with another of the batch (https://arxiv.org/abs/1710.09412)."""
    weight = _weights(inputs, alpha, generator)
    other = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    blended = inputs + (1 - weight[:, None, None, None]) * (inputs[other] - inputs)
    return blended, targets + (1 - weight[:, None]) * (targets[other] - targets)


def _weights(inputs: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
    """One per image, from Beta(alpha, alpha)."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(inputs))  # torch's own sampler takes no generator
    return torch.from_numpy(drawn).to(inputs)


def cutout(images: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """A black square in each image, of a share of its side (https://arxiv.org/abs/1708.04552)."""
    pixels = torch.full((len(images),), round(side * min(images.shape[2:])), device=images.device)
    return images.masked_fill(_boxes(images, pixels, pixels, generator)[:, None], 0)


def cutmix(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A box of each image from another of the batch, which gets its share of the target (B, classes).

    See https://arxiv.org/abs/1905.04899.
    """
    height, width = inputs.shape[2:]
    sides = (1 - _weights(inputs, alpha, generator)).sqrt()
    other = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    boxes = _boxes(inputs, (sides * height).round(), (sides * width).round(), generator)
    share = boxes.to(targets.dtype).mean((1, 2))[:, None]  # what the border left of the box
    return torch.where(boxes[:, None], inputs[other], inputs), targets + share * (targets[other] - targets)


def _boxes(images: Tensor, height: Tensor, width: Tensor, generator: torch.Generator) -> Tensor:
    """The pixels (B, H, W) of a box per image, centred on any pixel and clipped at the border."""
    inside = []
    for side, length in zip(images.shape[2:], (height, width), strict=True):
        centre = torch.randint(side, (len(images),), generator=generator).to(images.device)
        start = (centre - length // 2)[:, None]
        pixel = torch.arange(side, device=images.device)
        inside.append((pixel >= start) & (pixel < start + length[:, None]))
    rows, columns = inside
    return rows[:, :, None] & columns[:, None, :]
