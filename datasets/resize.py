"""Bringing images to one square size."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def square(image: Image.Image, size: int) -> Image.Image:
    """The central square of `image` at `size` pixels a side; all of the shorter side is kept."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def resize_gray(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Gray images (N, H, W) -> (N, 1, size, size)."""
    if images.shape[1:] != (size, size):
        images = np.stack([np.asarray(square(Image.fromarray(image), size)) for image in images])
    return images[:, None]
