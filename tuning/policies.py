"""RandAugment (https://arxiv.org/abs/1909.13719) and TrivialAugment (https://arxiv.org/abs/2103.10158) on batches.

The operations and their ranges are torchvision's, with nearest sampling and black outside the image.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

BINS = 31  # magnitudes 0 to 30


Change = Callable[[Tensor, Tensor], Tensor]  # of uint8 images (N, C, H, W) by N magnitudes, these on the CPU


class Operation(NamedTuple):
    apply: Change
    weakest: float
    rand: float  # the strongest of RandAugment
    trivial: float  # the strongest of TrivialAugment's wide space
    signed: bool


def operations(height: int, width: int) -> dict[str, Operation]:
    """RandAugment moves by a share of the side (150 of ImageNet's 331 pixels), TrivialAugment by so many pixels."""
    return {
        "Identity": Operation(identity, 0.0, 0.0, 0.0, signed=False),
        "ShearX": Operation(shear_x, 0.0, 0.3, 0.99, signed=True),
        "ShearY": Operation(shear_y, 0.0, 0.3, 0.99, signed=True),
        "TranslateX": Operation(translate_x, 0.0, 150 / 331 * width, 32.0, signed=True),
        "TranslateY": Operation(translate_y, 0.0, 150 / 331 * height, 32.0, signed=True),
        "Rotate": Operation(rotate, 0.0, 30.0, 135.0, signed=True),
        "Brightness": Operation(brightness, 0.0, 0.9, 0.99, signed=True),
        "Color": Operation(color, 0.0, 0.9, 0.99, signed=True),
        "Contrast": Operation(contrast, 0.0, 0.9, 0.99, signed=True),
        "Sharpness": Operation(sharpness, 0.0, 0.9, 0.99, signed=True),
        "Posterize": Operation(posterize, 8.0, 4.0, 2.0, signed=False),
        "Solarize": Operation(solarize, 1.0, 0.0, 0.0, signed=False),
        "AutoContrast": Operation(auto_contrast, 0.0, 0.0, 0.0, signed=False),
        "Equalize": Operation(equalize, 0.0, 0.0, 0.0, signed=False),
    }


def rand_augment(images: Tensor, ops: int, magnitude: float, generator: torch.Generator) -> Tensor:
    """`ops` operations per image, one after the other, of magnitude 0 (the images as they are) to 30."""
    if magnitude == 0:
        return images  # solarize, auto contrast and equalize would change them
    bins = torch.full((len(images),), float(magnitude))
    for _ in range(ops):
        images = _apply(images, bins, lambda operation: operation.rand, generator)
    return images


def trivial_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """One operation per image, of a magnitude drawn uniformly."""
    bins = torch.randint(BINS, (len(images),), generator=generator)
    return _apply(images, bins, lambda operation: operation.trivial, generator)


def _apply(images: Tensor, bins: Tensor, strongest: Callable[[Operation], float], generator: torch.Generator) -> Tensor:
    """An operation drawn for each image, its sign too."""
    space = operations(images.shape[2], images.shape[3]).values()
    drawn = torch.randint(len(space), (len(images),), generator=generator)
    signs = 2 * torch.randint(2, (len(images),), generator=generator) - 1
    tables = torch.stack([torch.linspace(operation.weakest, strongest(operation), BINS) for operation in space])
    lower = bins.long().clamp(max=BINS - 2)
    magnitudes = torch.lerp(tables[drawn, lower], tables[drawn, lower + 1], (bins - lower).float())
    signed = torch.tensor([operation.signed for operation in space])[drawn]
    magnitudes = torch.where(signed, signs * magnitudes, magnitudes)
    return choose(images, drawn, magnitudes, [operation.apply for operation in space])


def choose(images: Tensor, drawn: Tensor, magnitudes: Tensor, changes: Sequence[Change]) -> Tensor:
    """Each image under the one of the `changes` whose index was `drawn` for it."""
    groups, parts = [], []
    for index, change in enumerate(changes):
        group = (drawn == index).nonzero()[:, 0]
        if len(group):
            groups.append(group)
            parts.append(change(images.index_select(0, group.to(images.device)), magnitudes[group]))
    back = torch.cat(groups).argsort().to(images.device)
    return torch.cat(parts).index_select(0, back)  # copies whole images; index_copy would go byte by byte


def identity(images: Tensor, _: Tensor) -> Tensor:
    return images


def shear_x(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Along the top edge nothing moves."""
    return _affine(images, {(0, 1): magnitudes, (0, 2): magnitudes * (images.shape[2] / 2)})


def shear_y(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Along the left edge nothing moves."""
    return _affine(images, {(1, 0): magnitudes, (1, 2): magnitudes * (images.shape[3] / 2)})


def translate_x(images: Tensor, magnitudes: Tensor) -> Tensor:
    """By whole pixels."""
    return _affine(images, {(0, 2): -magnitudes.trunc()})


def translate_y(images: Tensor, magnitudes: Tensor) -> Tensor:
    """By whole pixels."""
    return _affine(images, {(1, 2): -magnitudes.trunc()})


def rotate(images: Tensor, magnitudes: Tensor) -> Tensor:
    """By degrees, counter-clockwise."""
    angle = magnitudes.double().deg2rad()  # float32 would send pixels halfway between two others elsewhere
    return _affine(images, {(0, 0): angle.cos(), (0, 1): -angle.sin(), (1, 0): angle.sin(), (1, 1): angle.cos()})


def _affine(images: Tensor, entries: dict[tuple[int, int], Tensor]) -> Tensor:
    """Each pixel from where a 2x3 matrix sends it, in pixels from the centre: the identity but for the `entries`."""
    height, width = images.shape[2:]
    matrices = torch.eye(2, 3).repeat(len(images), 1, 1)
    for (row, column), values in entries.items():
        matrices[:, row, column] = values
    matrices /= torch.tensor([[width / 2], [height / 2]])  # grid_sample counts from -1 to 1
    matrices = matrices.transpose(1, 2).to(images.device)
    by_x, by_y, offset = matrices[:, None, None].unbind(3)
    x, y = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (width, height))
    grid = x[:, None] * by_x + y[:, None, None] * by_y + offset  # (N, H, W, 2)
    return functional.grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    return _to_uint8(images * _per_image(1 + magnitudes, images))


def color(images: Tensor, magnitudes: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    return _away_from(_grey(images), images, magnitudes)


def contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    return _away_from(_grey(images).mean((1, 2, 3), keepdim=True), images, magnitudes)


def sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    if min(images.shape[2:]) < 3:
        return images
    result = images.float()
    inner = result[:, :, 1:-1, 1:-1]
    rows = result[:, :, :-2] + result[:, :, 1:-1] + result[:, :, 2:]
    box = rows[:, :, :, :-2] + rows[:, :, :, 1:-1] + rows[:, :, :, 2:]
    smooth = ((box + 4 * inner) / 13).round_()
    inner.addcmul_(smooth - inner, _per_image(-magnitudes, images))
    return _to_uint8(result)


def posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """The magnitude is the number of bits kept."""
    masks = 256 - torch.exp2(8 - magnitudes.round())
    return images & _per_image(masks, images).to(torch.uint8)


def solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """The magnitude is the share of full brightness from which pixels are inverted."""
    return torch.where(images >= _per_image(255 * magnitudes, images), ~images, images)


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float()
    flat = low == high
    scale = ((high - low) * (1 / 255)).masked_fill_(flat, 1)
    return _to_uint8((images - low.masked_fill(flat, 0)) / scale)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """As Pillow does, with its integer arithmetic."""
    pixels = images.flatten(2).long()
    histogram = torch.zeros(*pixels.shape[:2], 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels, dtype=torch.int32))
    last = histogram.gather(2, pixels.amax(2, keepdim=True))  # how many pixels have the channel's highest value
    step = (pixels.shape[2] - last).div(255, rounding_mode="floor")
    below = histogram.cumsum(2, dtype=torch.int32) - histogram
    table = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=images.device, dtype=torch.int32), table)
    return table.to(torch.uint8).gather(2, pixels).view_as(images)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device)[:, None, None, None]


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _away_from(degenerate: Tensor, images: Tensor, magnitudes: Tensor) -> Tensor:
    """`degenerate` at magnitude -1, the images at 0, as far beyond them at 1."""
    strength = _per_image(magnitudes, images)
    return _to_uint8(torch.addcmul(images * (1 + strength), degenerate, -strength))


def _to_uint8(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).to(torch.uint8)
