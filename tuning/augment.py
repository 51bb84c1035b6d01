"""Batched augmentation: every image of a batch drawn on its own, in tensor operations on the training device.

What is random comes from a generator on the CPU, so that each device gets the same draws.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tuning.policies import brightness, choose, color, contrast, rand_augment, trivial_augment
from tuning.spec import HParams

PAD_SHARE = 8  # a crop moves by up to 1/8 of the side: 4 of 32 pixels, as in the ResNet paper
TRIES = 10  # boxes drawn for each image until one fits
CROP_RATIOS = (3 / 4, 4 / 3)  # height : width, of Inception and of torchvision's RandomResizedCrop
ERASED_AREAS, ERASED_RATIOS = (0.02, 0.33), (0.3, 3.3)  # of torchvision's RandomErasing


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops (B, C, H, W) of the images padded with black by an eighth of their side."""
    batch, _, height, width = images.shape
    pad = max(height // PAD_SHARE, 1)
    windows = functional.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)  # a view
    top, left = torch.randint(0, 2 * pad + 1, (2, batch), generator=generator).to(images.device)
    return windows[torch.arange(batch, device=images.device), :, top, left]


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    batch = len(images)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    chosen = torch.arange(batch) + batch * mirrored
    return torch.cat((images, images.flip(3))).index_select(0, chosen.to(images.device))


def resized_crop(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """A box of `scale` to 1 of each image's area, enlarged to its size: torchvision's RandomResizedCrop.

    At 1 the images stay as they are. There torchvision, too, keeps square ones: no other box fits in ten tries.
    """
    return images if scale == 1 else enlarge(images, crop_boxes(images.shape, scale, generator))


def crop_boxes(shape: torch.Size, scale: float, generator: torch.Generator) -> Tensor:
    """Top, left, height and width (4, B) for images of that shape."""
    _, _, height, width = shape
    central = (min(height, round(width / CROP_RATIOS[0])), min(width, round(height * CROP_RATIOS[1])))
    return _draw_boxes(shape, (scale, 1.0), CROP_RATIOS, (height, width), central, generator)


def enlarge(images: Tensor, boxes: Tensor) -> Tensor:
    """The boxes (4, B) of the images at the images' own size, sampled bilinearly.

    This is torchvision's `resized_crop` of float tensors, rounded; of uint8 ones it rounds rows, then columns, and is
    one grey level off in a sixth of the pixels. Nothing shrinks here, and so antialiasing would change nothing.
    """
    top, left, height, width = boxes.float().to(images.device)[:, :, None]
    y = _sources(top, height, images.shape[2])[:, :, None].expand(-1, -1, images.shape[3])
    x = _sources(left, width, images.shape[3])[:, None, :].expand(-1, images.shape[2], -1)
    grid = torch.stack((x, y), 3)
    return functional.grid_sample(images.float(), grid, align_corners=False).round_().to(torch.uint8)


def _sources(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where each of `size` pixels (B, size) comes from in a stretch of the side, as grid_sample counts: -1 to 1."""
    pixel = (torch.arange(size, device=start.device) + 0.5) * (length / size) - 0.5
    pixel = start + pixel.clamp(min=0).minimum(length - 1)  # nothing from beyond the box
    return (2 * pixel + 1) / size - 1


def erase(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A box set to black in a `share` of the images: torchvision's RandomErasing (Zhong et al. 2017)."""
    chosen = torch.rand(len(images), generator=generator) < share
    return blacken(images, erase_boxes(images.shape, generator) * chosen)


def erase_boxes(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Top, left, height and width (4, B) for images of that shape, each box lower and narrower than they are."""
    _, _, height, width = shape
    return _draw_boxes(shape, ERASED_AREAS, ERASED_RATIOS, (height - 1, width - 1), (0, 0), generator)


def blacken(images: Tensor, boxes: Tensor) -> Tensor:
    """The images without the pixels in their boxes (4, B)."""
    return images * ~_inside(images, boxes)[:, None]  # twenty times as fast as masked_fill


def _inside(images: Tensor, boxes: Tensor) -> Tensor:
    """The pixels (B, H, W) in the boxes (4, B), which may go beyond the border."""
    top, left, height, width = boxes.to(images.device)[:, :, None]
    row, column = (torch.arange(side, device=images.device) for side in images.shape[2:])
    rows, columns = (row >= top) & (row < top + height), (column >= left) & (column < left + width)
    inside: Tensor = rows[:, :, None] & columns[:, None, :]
    return inside


def _draw_boxes(
    shape: torch.Size,
    areas: tuple[float, float],
    ratios: tuple[float, float],
    largest: tuple[int, int],
    otherwise: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """For each image the first of some boxes that is not too large, anywhere; one in the centre if all of them are.

    Areas are uniform, and so are the logarithms of height : width. Gives top, left, height and width (4, B).
    """
    batch, _, image_height, image_width = shape
    area, ratio = torch.rand(2, TRIES, batch, generator=generator, dtype=torch.float64)
    place = torch.rand(2, batch, generator=generator, dtype=torch.float64)  # float32 may round up to 1 times the room
    area = image_height * image_width * (areas[0] + (areas[1] - areas[0]) * area)
    ratio = ratios[0] * (ratios[1] / ratios[0]) ** ratio
    tried = torch.stack(((area * ratio).sqrt(), (area / ratio).sqrt())).round()  # (2, TRIES, B)
    fits = ((tried > 0) & (tried <= torch.tensor(largest)[:, None, None])).all(0)
    first = fits.byte().argmax(0).expand(2, 1, batch)
    found = fits.any(0)
    sides = torch.where(found, tried.gather(1, first)[:, 0], torch.tensor(otherwise)[:, None])
    room = torch.tensor([[image_height], [image_width]]) - sides
    starts = torch.where(found, place * (room + 1), room / 2).floor()
    return torch.cat((starts, sides)).long()


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation each times 1 - `strength` to 1 + `strength`: torchvision's ColorJitter.

    Without its hue, as fb.resnet.torch and timm have it; saturation leaves grey images as they are.
    """
    return recolour(images, *jitter_draws(len(images), strength, generator))


def jitter_draws(count: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What to add to 1 for each of the three factors (3, B), and which of them comes first, second and last (3, B)."""
    weakest = -min(strength, 1.0)  # a factor of 0
    magnitudes = weakest + (strength - weakest) * torch.rand(3, count, generator=generator)
    return magnitudes, torch.rand(3, count, generator=generator).argsort(0)


def recolour(images: Tensor, magnitudes: Tensor, orders: Tensor) -> Tensor:
    """The images under brightness (0), contrast (1) and saturation (2), each by its magnitude, in those orders."""
    for turn in orders:
        images = choose(images, turn, magnitudes.gather(0, turn[None])[0], (brightness, contrast, color))
    return images


def augment(images: Tensor, hparams: HParams, generator: torch.Generator) -> Tensor:
    """uint8 images (B, C, H, W) -> uint8 images: moved, then recoloured or bent by a policy, then partly blackened."""
    if hparams.augmentation in ("crop", "crop_flip"):
        images = crop(images, generator)
    if hparams.augmentation == "resized_crop_flip":
        images = resized_crop(images, hparams.crop_scale, generator)
    if hparams.augmentation in ("crop_flip", "resized_crop_flip"):
        images = flip(images, generator)
    if hparams.jitter:
        images = jitter(images, hparams.jitter, generator)
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
    """One per image, from Beta(alpha, alpha), or 1 for alpha 0."""
    if alpha == 0:
        return inputs.new_ones(len(inputs))
    seed = int(torch.randint(2**62, (1,), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(inputs))  # torch's own sampler takes no generator
    return torch.from_numpy(drawn).to(inputs)


def cutout(images: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """A black square in each image, of a share of its side (https://arxiv.org/abs/1708.04552)."""
    pixels = torch.full((len(images),), round(side * min(images.shape[2:])), device=images.device)
    return blacken(images, _centred(images, pixels, pixels, generator))


def cutmix(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A box of each image from another of the batch, which gets its share of the target (B, classes).

    See https://arxiv.org/abs/1905.04899.
    """
    height, width = inputs.shape[2:]
    sides = (1 - _weights(inputs, alpha, generator)).sqrt()
    other = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    boxes = _centred(inputs, (sides * height).round(), (sides * width).round(), generator)
    inside = _inside(inputs, boxes)
    share = inside.to(targets.dtype).mean((1, 2))[:, None]  # what the border left of the box
    return torch.where(inside[:, None], inputs[other], inputs), targets + share * (targets[other] - targets)


def _centred(images: Tensor, height: Tensor, width: Tensor, generator: torch.Generator) -> Tensor:
    """A box (4, B) per image, its centre any pixel."""
    rows, columns = (torch.randint(side, (len(images),), generator=generator) for side in images.shape[2:])
    top, left = rows.to(images.device) - height // 2, columns.to(images.device) - width // 2
    return torch.stack((top, left, height, width))
