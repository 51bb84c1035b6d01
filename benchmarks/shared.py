"""What the measuring scripts beside this file share: images of several kinds, memory, and errors on one line."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import RandomCrop, RandomResizedCrop

import datasets
from datasets import Images, Splits, in_memory

SMAPS = Path("/proc/self/smaps")
MAPPING = re.compile(  # path, Pss, Private_Clean, Private_Dirty
    r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n"
    r"(?:.*\n)*?Pss: +(\d+)(?:.*\n)*?Private_Clean: +(\d+)(?:.*\n)*?Private_Dirty: +(\d+)",
    re.MULTILINE,
)
KINDS = ("store", "own", "Ray's objects")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 and MNIST serve them: one PIL image at a time, through `transform`."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        pixels = np.ascontiguousarray(images.images.transpose(0, 2, 3, 1))
        self.pixels = pixels[..., 0] if pixels.shape[3] == 1 else pixels
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def write_photographs(folder: Path, count: int, classes: int = 4) -> float:
    """JPEGs of 500x375 pixels in folders of classes; their mean size in KiB.

    They are octaves of noise that fade as in real photographs, so that there are about as many bytes to decode.
    """
    rng, sizes = np.random.default_rng(0), []
    for index in range(count):
        total = np.full((375, 500, 3), 128.0)
        for side, strength in ((4, 60), (16, 35), (64, 18), (256, 9)):
            noise = Image.fromarray(rng.integers(0, 256, (side * 3 // 4, side, 3), np.uint8))
            total += (np.asarray(noise.resize((500, 375), Image.Resampling.BICUBIC)) / 127.5 - 1) * strength
        path = folder / f"class{index % classes}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        sizes.append(path.stat().st_size / 1024)
    return sum(sizes) / count


class Case(NamedTuple):
    """Images for an architecture, as we hold them and as torchvision does."""

    model: str
    batch: int
    splits: Splits
    stock: Callable[..., Any]  # a torch data set, given its `transform`
    crop: Callable[[Image.Image], Image.Image]  # the first part of that
    levels: tuple[str, ...]  # of our augmentation that have a counterpart in stock
    store_seconds: float = 0.0  # an image; 0: there is no store


def array_case() -> Case:
    rng = np.random.default_rng(0)
    part = in_memory(rng.integers(0, 256, (5000, 3, 32, 32), np.uint8), rng.integers(0, 10, 5000))
    names, mean, std = tuple("0123456789"), (0.5,) * 3, (0.25,) * 3
    splits = Splits("array", train=part, val=part, classes=names, mean=mean, std=std, read_test=lambda: part)
    return Case("resnet20", 128, splits, partial(Pictures, part), RandomCrop(32, padding=4), ("crop_flip", "heavy"))


def folder_case(folder: Path, images: int, size: int) -> Case:
    """JPEGs in a new folder; prints how long our store of them took."""
    mean = write_photographs(folder, images)
    start = time.perf_counter()
    splits = datasets.load(str(folder), root=folder, image_size=size)
    seconds = time.perf_counter() - start
    stored = len(splits.train) + len(splits.val)
    print(f"\nstore of {stored} JPEGs ({mean:.0f} KiB each) at {size} px: {seconds:.2f} s on all cores\n", flush=True)
    stock, levels = partial(ImageFolder, str(folder)), ("crop_flip", "resized_crop_flip", "heavy")
    return Case("resnet18", 16, splits, stock, RandomResizedCrop(size), levels, seconds / stored)


def held(stores: str) -> Counter[str]:
    """Bytes of this process by `KINDS`: its share (PSS) of mapped stores, private memory, its share of Ray's objects.

    Raises:
        ValueError: this is no Linux.
    """
    if not SMAPS.exists():
        raise ValueError(f"{SMAPS} is not there; measure memory on Linux")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # gives back what was freed, where new data would hide
    sizes: Counter[str] = Counter()
    for path, pss, clean, dirty in MAPPING.findall(SMAPS.read_text()):
        if path.startswith((stores, "/dev/shm")):
            sizes[KINDS[0] if path.startswith(stores) else KINDS[2]] += int(pss) * 1024
        elif path in ("", "[heap]") or path.startswith("[anon"):
            sizes[KINDS[1]] += (int(clean) + int(dirty)) * 1024
    return sizes


@contextmanager
def short_errors() -> Iterator[None]:
    """Ends the program with a line instead of a traceback where the request is at fault."""
    try:
        yield
    except (ValueError, ConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3 if isinstance(error, ConnectionError) else 2)
