"""Where the files of a data set lie; if nowhere, torchvision downloads them, or one line says what to put where."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from datasets.layout import Layout

T = TypeVar("T")
REASON_CHARS = 300  # of a failure that is shown; torchvision's name every mirror


@dataclass(frozen=True, kw_only=True)
class Download:
    """How torchvision brings a data set into a folder, and what a user without network does instead."""

    title: str
    get: Callable[[Path], object]  # downloads, checks and unpacks
    makes: tuple[str, ...]  # what lies in the folder afterwards
    by_hand: str  # the files that do as well
    archive: str = ""  # the one file that holds all of it, if there is one
    md5: str = ""  # of the archive
    hint: str = ""


def find(root: Path, layout: Layout) -> tuple[Path, ...] | None:
    """The files of a layout, in the first of its folders in `root` that has them all.

    Raises:
        ValueError: a folder has some of them, and none has all.
    """
    incomplete = ""
    names = layout.files
    for folder in (root / name for name in layout.folders):
        found = [path for name in names if (path := _with_ending(folder / name, layout.endings))]
        if len(found) == len(names):
            return tuple(found)
        if found and not incomplete:
            missing = next(name for name in names if not _with_ending(folder / name, layout.endings))
            incomplete = f"{folder} has {found[0].name} but no {missing}; put it there too, or move all away"
    if incomplete:
        raise ValueError(incomplete)
    return None


def found_or_fetched(root: Path, look: Callable[[], T | None], download: Download) -> T:
    """What `look` finds in `root`, if need be after the archive there was unpacked or all of it was downloaded.

    Raises:
        ValueError: the archive is damaged or cannot be unpacked.
        ConnectionError: nothing is there and the download failed.
    """
    found = look()
    if found is None:
        archive = root / download.archive
        if download.archive and os.path.isfile(archive):
            _unpack(archive, download)
        else:
            _fetch(root, download)
        found = look()
    if found is None:
        raise ValueError(f"{root / download.makes[0]} is not {download.title}; move it away")
    return found


def reason(error: BaseException) -> str:
    """What went wrong, on one line."""
    return shortened(" ".join(str(error).split()) or type(error).__name__)


def shortened(text: str) -> str:
    """A text that is not too long to be shown."""
    return text if len(text) <= REASON_CHARS else text[: REASON_CHARS - 3] + "..."


def _with_ending(path: Path, endings: Sequence[str]) -> Path | None:
    return next((full for ending in endings if os.path.isfile(full := path.with_name(path.name + ending))), None)


def _unpack(archive: Path, download: Download) -> None:
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(archive, download.md5):
        raise ValueError(f"{archive} is damaged or cut short (its md5 is not {download.md5}); remove or replace it")
    try:
        with _scratch(archive.parent, download.makes) as folder:
            extract_archive(str(archive), str(folder))
    except OSError as error:
        raise ValueError(
            f"{archive} cannot be unpacked beside itself ({reason(error)}); "
            "unpack it where there is room and give that folder as --data-dir"
        ) from error


def _fetch(root: Path, download: Download) -> None:
    try:
        with _scratch(root, download.makes) as folder:
            download.get(folder)
    except (OSError, RuntimeError, HTTPException) as error:  # torchvision raises RuntimeError for a wrong checksum
        hint = f", or {download.hint}" if download.hint else ""
        raise ConnectionError(
            f"{download.title} is not in {root} and could not be downloaded ({reason(error)}); "
            f"put {download.by_hand} there{hint}"
        ) from error


@contextmanager
def _scratch(root: Path, makes: Iterable[str]) -> Iterator[Path]:
    """A folder whose contents move to `root` once complete: a crash leaves no half of a data set that looks whole."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as name:
        folder = Path(name)
        yield folder
        for made in makes:
            target = root / made
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(folder / made, target)
            except OSError:
                if not target.exists():  # else another process was quicker
                    raise
