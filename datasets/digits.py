"""1,797 real handwritten digits of 8x8 pixels that scikit-learn brings along (UCI Optical Recognition, test part)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from datasets import Images, Source, stratified_split
from datasets.resize import resize_gray

NATIVE_SIZE = 8
CLASSES = tuple("0123456789")
TEST_FRACTION = 0.2  # the set comes without a test part; ours is the same for every seed


def read(root: Path, image_size: int | None, fit: Callable[[int], int]) -> Source:
    size = image_size or fit(NATIVE_SIZE)
    return Source(train=_part(size, test=False), test=partial(_part, size, test=True), classes=CLASSES)


def _part(size: int, *, test: bool) -> Images:
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 17 levels of gray
    labels = digits.target.astype(np.int64)
    train, held_out = stratified_split(labels, TEST_FRACTION, 0, CLASSES)
    chosen = held_out if test else train
    return Images(images=resize_gray(pixels[chosen], size), labels=labels[chosen])
