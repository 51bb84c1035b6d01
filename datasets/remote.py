"""Data sets in an object store: what a reader needs of one is fetched once per machine, and again what changed there.

A copy lies in a folder named by the digest of what was listed: a process that knows the digest asks the store nothing,
and two machines with the same digest have the same files.
"""

from __future__ import annotations

import functools
import hashlib
import os
import posixpath
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from filelock import FileLock
from rich.progress import DownloadColumn

from datasets import object_store, store, table
from datasets.layout import Layout, begins, chosen

THREADS = 16  # small files take the time of a round trip each
BATCH = 4096  # files
CHUNK = 2**23  # bytes
FETCHING = "fetching"  # a copy that is not complete; its files are
GIB = 2**30


@dataclass(frozen=True)
class Entry:
    """A file of the store; Amazon knows the time to the second."""

    size: int
    mtime_ns: int


Entries = Mapping[str, Entry]  # by path below the address


@dataclass(frozen=True)
class Copy:
    """Where the files of an address lie on this machine, and the digest of their names, sizes and times."""

    path: Path
    digest: str


def folder() -> Path:
    """Where this user's copies lie on this machine."""
    return store.cache() / "data"


def fetched(address: str, title: str, layout: Layout | None, digest: str | None = None) -> Copy:
    """The copy of a folder or .csv file with its images, or with a `layout` of the set called `title` in it.

    A copy of that `digest` is taken as it is; without one the store is asked, once per process.

    Raises:
        ValueError: it is not there, too large for the disk, or no longer what `digest` stands for.
        ConnectionError: the store cannot be reached, or denies it.
    """
    return _fetched(address, title, layout, digest, folder())


@functools.cache
def _fetched(address: str, title: str, layout: Layout | None, digest: str | None, where: Path) -> Copy:
    place = where / f"{title}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    fetch = _Fetch(address, title, layout, place)
    if digest and fetch.copy(digest).path.exists():
        return fetch.copy(digest)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / "lock"):
            return fetch.run(digest)
    except ConnectionError:
        raise
    except OSError as error:
        raise ValueError(
            f"{address} cannot be kept in {place} ({error.strerror}); free the disk, or set XDG_CACHE_HOME to another"
        ) from error


class _Fetch:
    """Of one address, by one process at a time."""

    def __init__(self, address: str, title: str, layout: Layout | None, place: Path) -> None:
        self.address, self.title, self.layout, self.place = address, title, layout, place
        known = object_store.parsed(address)
        self.table = known.name if is_table(address) else ""
        self.inner = posixpath.dirname(known.path) if self.table else known.path
        self.prefix = f"{known.scheme}://{self.inner}"
        self.name = self.inner.rpartition("/")[2]  # readers may look at the name of a folder

    def copy(self, digest: str) -> Copy:
        return Copy(self.place / digest / self.name / self.table, digest)

    def run(self, digest: str | None) -> Copy:
        """Fetches what is missing; the copy gets its name when it is whole."""
        self.filesystem, _ = object_store.opened(self.address)
        entries = self.choose()
        found = _digest(entries)
        if digest not in (None, found):
            raise ValueError(
                f"{self.address} is no longer what it was when the study read it; put the old files back, "
                "or start another study"
            )
        whole = self.copy(found)
        if whole.path.exists() and not _missing(self.place / found / self.name, entries):
            return whole
        begun = self.take_over()
        _tidy(begun, entries)
        self.get(begun, {path: entries[path] for path in _missing(begun, entries)})
        begun.parent.rename(self.place / found)
        return whole

    def copies(self) -> list[Path]:
        """One that is complete, or begun."""
        return [path / self.name for path in self.place.iterdir() if (path / self.name).is_dir()]

    def take_over(self) -> Path:
        """Makes of an older copy the beginning of a new one: most of its files are still right."""
        begun = self.place / FETCHING / self.name
        for old in self.copies():
            if not begun.exists():
                old.parent.rename(begun.parent)
            elif old != begun:
                shutil.rmtree(old.parent)
        begun.mkdir(parents=True, exist_ok=True)
        return begun

    def choose(self) -> Entries:
        """What the set consists of."""
        if self.layout:
            there = self.listing(begins(self.layout))
            names = chosen(there, self.layout)
            if not names:
                raise ValueError(f"{self.address} holds no {self.title}; looked for {self.layout}")
            return {name: there[name] for name in names}
        there = self.listing(None)
        if not self.table:
            return {path: entry for path, entry in there.items() if not _hidden(path)}
        if self.table not in there:
            raise ValueError(f"there is nothing at {self.address}; mend the address")
        only = {self.table: there[self.table]}
        if not (root := next((copy for copy in self.copies() if not _missing(copy, only)), None)):
            self.get(root := self.take_over(), only)
        names = [self.table, *self.named_in(root / self.table)]
        return {name: there[name] for name in names if name in there}  # table.py names what is missing

    def named_in(self, path: Path) -> Iterator[str]:
        for row in table.read_rows(path):
            name = os.path.relpath(row.file, path.parent)
            if name.startswith(".."):
                raise ValueError(
                    f"{self.address}, line {row.line}: {row.file} does not lie beside the table; "
                    "name images by their path from its folder"
                )
            yield name

    def listing(self, begin: set[str] | None) -> Entries:
        """All files below the address, or those alone whose paths begin with one of these parts."""
        from pyarrow.fs import FileSelector, FileType

        with object_store.errors(self.address):
            found = self.filesystem.get_file_info(FileSelector(self.inner, recursive=begin is None))
            for folder in [i for i in found if begin and i.type == FileType.Directory and i.base_name in begin]:
                found += self.filesystem.get_file_info(FileSelector(folder.path, recursive=True))
        files = [info for info in found if info.type == FileType.File]
        entries = {info.path[len(self.inner) + 1 :]: Entry(info.size, info.mtime_ns) for info in files}
        if odd := next((path for path in entries if {"", ".", ".."} & {*path.split("/")}), None):
            raise ValueError(f"{self.prefix}/{odd} can be no path of a file; rename it")
        return entries

    def get(self, root: Path, entries: Entries) -> None:
        """Downloads files to their places below `root`, each whole or not at all."""
        total = sum(entry.size for entry in entries.values())
        check_room(self.address, total, self.place)
        aside = self.place / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        stop = threading.Event()
        with store.progress(f"fetching {self.title}", total, DownloadColumn) as advance:

            def took(size: int) -> None:
                advance(size)
                if stop.is_set():
                    raise InterruptedError

            def work(number: int, name: str) -> None:
                self.download(name, entries[name], aside / str(number), root / name, took)

            pool = ThreadPoolExecutor(THREADS)
            try:
                for names in _batches(entries):
                    for _ in pool.map(work, range(len(names)), names):
                        pass
            except BaseException:
                stop.set()  # large files under way
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        aside.rmdir()

    def download(self, name: str, entry: Entry, aside: Path, target: Path, took: Callable[[int], None]) -> None:
        with open(aside, "wb") as file:
            for chunk in self.chunks(name):
                file.write(chunk)
                took(len(chunk))
        if (size := aside.stat().st_size) != entry.size:
            raise ConnectionError(
                f"{self.prefix}/{name} has {size:,} bytes, was listed with {entry.size:,}: it changes; start again"
            )
        os.utime(aside, ns=(entry.mtime_ns, entry.mtime_ns))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside, target)

    def chunks(self, name: str) -> Iterator[bytes]:
        with (
            object_store.errors(f"{self.prefix}/{name}"),
            self.filesystem.open_input_stream(f"{self.inner}/{name}", compression=None) as stream,
        ):
            while chunk := stream.read(CHUNK):
                yield chunk


def is_table(address: str) -> bool:
    """Whether it is the address of a CSV file."""
    return object_store.parsed(address).name.lower().endswith(".csv")


def check_room(address: str, needed: int, place: Path) -> None:
    """That the disk takes so many bytes more."""
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(
            f"{address} has {needed / GIB:,.1f} GiB to fetch, but {place} has {free / GIB:,.1f} GiB free; "
            "free some, or set XDG_CACHE_HOME to a larger disk"
        )


def _digest(entries: Entries) -> str:
    digest = hashlib.sha256()
    for path, entry in sorted(entries.items()):
        digest.update(f"{path}\0{entry.size}\0{entry.mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _missing(root: Path, entries: Entries) -> list[str]:
    """The files that are not there as they were listed."""
    return [path for path, entry in entries.items() if _there(root / path) != entry]


def _there(path: Path) -> Entry | None:
    try:
        known = path.stat()
    except OSError:
        return None
    return Entry(known.st_size, known.st_mtime_ns)


def _tidy(root: Path, entries: Entries) -> None:
    """Removes what is not listed, such as what went from the store or was unpacked from an older archive."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            if (Path(folder) / name).relative_to(root).as_posix() not in entries:
                (Path(folder) / name).unlink()
        for name in folders:
            path = Path(folder) / name
            if path.is_symlink():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    """So that a million files need no million futures."""
    left = iter(names)
    while batch := list(islice(left, BATCH)):
        yield batch


def _hidden(path: str) -> bool:
    return path.startswith(".") or "/." in path
