"""1,797 real handwritten digits of 8x8 pixels that scikit-learn brings along (UCI Optical Recognition, test part)."""

from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from datasets.source import Labels, Packed, Pixels, Source
from datasets.splits import TEST_FRACTION, stratified_split

CLASSES = tuple("0123456789")


def read(root: Path, name: str) -> Source:
    path = Path(str(files("sklearn.datasets.data") / "digits.csv.gz"))
    train, test = (Packed(files=(path,), read=partial(_part, test=test)) for test in (False, True))
    return Source(train=train, test=test, classes=CLASSES, native_size=8)


def _part(*, test: bool) -> tuple[Pixels, Labels]:
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 17 levels of gray
    labels = digits.target.astype(np.int64)
    train, held_out = stratified_split(labels, TEST_FRACTION, 0, CLASSES)
    chosen = held_out if test else train
    return pixels[chosen], labels[chosen]
