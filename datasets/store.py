"""Decoded once per machine: the images of a part at one size, in a file that all trials map into their memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from datasets import decode
from datasets.source import Labels, Listed, Packed, Part, Pixels
from datasets.splits import Rows

LAYOUT = 1  # of the files of a store
MAX_UNREADABLE = 0.01  # of the images; more is no accident
DESCRIPTION = "store.json"  # written last
CHUNK = 2**24  # bytes


class TooLarge(Exception):
    """Decoded images would take more room than this machine can spare; the message says of what."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The images of a part, decoded."""

    pixels: Pixels  # (M, C, size, size), mapped from its file, read-only
    rows: Rows  # those that could be read
    labels: Labels  # of these rows
    moments: NDArray[np.float32]  # (M, C, 2): mean of each image, and of its squares
    digest: str  # sha256 of the pixels
    unreadable: tuple[str, ...]  # why, for each image left out


def cache() -> Path:
    """Where all lies that this user's processes keep on this machine and could make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ray-image-tuning"


def folder() -> Path:
    """Where this user's stores lie on this machine."""
    return cache() / "stores"


def opened(part: Part, size: int, name: str, share: float) -> Stored:
    """The store of a part, made first if there is none; a process that finds another one at it waits.

    `name` tells the part from all others; stores of it with other contents are removed. A new one may take a `share`
    of the free disk, and of the memory: a larger one would be read from the disk again and again.

    Raises:
        ValueError: the files are not what they should be.
        TooLarge: there is no store, and this machine has no room for one.
    """
    place = folder() / f"{name}-{size}px"
    place.mkdir(parents=True, exist_ok=True)
    where = place / _key(part, size)
    with FileLock(place / "lock"):
        if not _complete(where):
            for old in place.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _check_room(part, size, share)
            _make(part, size, where)
        return _read(where)


def _check_room(part: Part, size: int, share: float) -> None:
    needed = len(part.files) * 3 * size * size if isinstance(part, Listed) else 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for what, there in (("free disk", shutil.disk_usage(folder()).free), ("memory", memory)):
        if needed > share * there:
            sizes = f"{needed / 2**30:.1f} GiB decoded, more than {share:g} of the {there / 2**30:.1f} GiB of {what}"
            raise TooLarge(f"{len(part.files):,} images are {sizes}")


def _key(part: Part, size: int) -> str:
    """Changes with the files, their labels and how they are decoded."""
    digest = hashlib.sha256(repr((LAYOUT, decode.VERSION, size, type(part).__name__)).encode())
    if isinstance(part, Listed):
        digest.update(repr(part.whole).encode())
        digest.update(np.ascontiguousarray(part.labels).data)
    else:
        called = part.read.func.__module__, part.read.func.__qualname__, part.read.args, part.read.keywords
        digest.update(repr(called).encode())
    for path in part.files:
        known = path.stat()
        digest.update(f"{path}\0{known.st_size}\0{known.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _complete(where: Path) -> bool:
    """Whether all files of a store are there in their full length."""
    try:
        sizes = json.loads((where / DESCRIPTION).read_text())["bytes"]
        return all((where / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return False


def _read(where: Path) -> Stored:
    known = json.loads((where / DESCRIPTION).read_text())
    return Stored(
        pixels=np.memmap(where / "pixels", np.uint8, "r", shape=tuple(known["shape"])),
        rows=np.load(where / "rows.npy"),
        labels=np.load(where / "labels.npy"),
        moments=np.load(where / "moments.npy"),
        digest=known["sha256"],
        unreadable=tuple(known["unreadable"]),
    )


def _make(part: Part, size: int, where: Path) -> None:
    """Makes a store beside its place and moves it there whole."""
    aside = where.with_suffix(".new")
    aside.mkdir()
    if isinstance(part, Packed):
        images, labels = part.read()
        shape = (len(images), 3 if images.ndim == 4 else 1, size, size)
        unreadable = _write(aside, shape, where.parent.name, lambda index: decode.resize(images[index], size))
    else:
        labels, shape = part.labels, (len(part.files), 3, size, size)
        unreadable = _write(
            aside, shape, where.parent.name,
            lambda index: decode.read_square(part.files[index], size, whole=part.whole),
        )  # fmt: skip
    rows = np.setdiff1d(np.arange(shape[0]), list(unreadable))
    np.save(aside / "rows.npy", rows)
    np.save(aside / "labels.npy", labels[rows])
    _describe(aside, shape, [unreadable[index] for index in sorted(unreadable)])
    aside.rename(where)


def _write(aside: Path, shape: tuple[int, ...], name: str, read: Callable[[int], Pixels]) -> dict[int, str]:
    """Writes pixels and moments on all cores; gives the reason for each image that could not be read.

    Raises:
        ValueError: there are too many of those.
    """
    pixels = np.memmap(aside / "pixels", np.uint8, "w+", shape=shape)
    moments = np.zeros((*shape[:2], 2), np.float32)
    unreadable: dict[int, str] = {}

    def work(index: int) -> None:
        try:
            image = pixels[index] = read(index)
        except decode.Unreadable as error:
            unreadable[index] = str(error)
            return
        moments[index] = decode.moments(image)

    with progress(f"decoding {name}", shape[0]) as advance:
        decode.in_threads(work, shape[0], advance)
    if len(unreadable) > MAX_UNREADABLE * shape[0]:
        first = "; ".join(unreadable[index] for index in sorted(unreadable)[:3])
        raise ValueError(
            f"{len(unreadable):,} of {shape[0]:,} images cannot be read, more than {MAX_UNREADABLE:.0%}: {first}; "
            "mend or remove them"
        )
    pixels.flush()
    np.save(aside / "moments.npy", moments)
    return unreadable


def _describe(aside: Path, shape: tuple[int, ...], unreadable: list[str]) -> None:
    """Writes what a complete store is, after all else is on the disk: a power cut may tear no store unnoticed."""
    digest = hashlib.sha256()
    with open(aside / "pixels", "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    for path in aside.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    description = {
        "shape": shape,
        "sha256": digest.hexdigest(),
        "unreadable": unreadable,
        "bytes": {path.name: path.stat().st_size for path in aside.iterdir()},
    }
    with open(aside / DESCRIPTION, "w") as file:
        json.dump(description, file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def progress(
    title: str, count: int, done: type[ProgressColumn] = MofNCompleteColumn
) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal that goes away when done; nothing where the output is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), done(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=count)
        yield lambda done: bar.advance(task, done)
