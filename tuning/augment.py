"""Batched augmentation: every image of a batch drawn on its own, in tensor operations on the training device."""

import numpy as np
import torch
from torch import Tensor

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


def augment(images: Tensor, policy: str, erasing: float, generator: torch.Generator) -> Tensor:
    """uint8 images (B, C, H, W) -> uint8 images; "none" without erasing gives them back as they are."""
    if policy in ("crop", "crop_flip"):
        images = crop(images, generator)
    if policy == "crop_flip":
        images = flip(images, generator)
    if erasing > 0:
        images = erase(images, erasing, generator)
    return images


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image and its target (B, classes) blended with another of the batch (https://arxiv.org/abs/1710.09412)."""
    batch = len(inputs)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, batch)  # torch's own sampler takes no generator
    weight = torch.from_numpy(drawn).to(inputs)
    other = torch.randperm(batch, generator=generator).to(inputs.device)
    blended = inputs + (1 - weight[:, None, None, None]) * (inputs[other] - inputs)
    return blended, targets + (1 - weight[:, None]) * (targets[other] - targets)
