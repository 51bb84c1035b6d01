"""Where a study's files are kept: in a folder that all of its machines share, or in an object store."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from datasets import anchored
from datasets.object_store import errors, is_address, opened
from datasets.store import cache

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from torch import Tensor

Result = TypeVar("Result")

STUDY_FILE = "study.json"  # a folder is a study's from when this lies in it: before, nothing was searched
JOURNAL = "journal.jsonl"
CHUNK = 2**23  # bytes
PATIENCE = 300.0  # seconds that an object store may be away before a trial fails


@dataclass(frozen=True)
class Storage:
    """The files of one study, each called by its path below the study's folder.

    In an object store every machine has a copy of what it needs, in `folder`; checkpoints are not kept there.
    """

    results_dir: str  # an absolute path, or an address such as s3://bucket/results
    name: str

    @property
    def remote(self) -> bool:
        """Whether the files are kept in an object store."""
        return is_address(self.results_dir)

    @property
    def folder(self) -> Path:
        """The study's folder on this machine."""
        if not self.remote:
            return Path(self.results_dir, self.name)
        return cache() / "studies" / hashlib.sha256(self.results_dir.encode()).hexdigest()[:8] / self.name

    def __str__(self) -> str:
        """What a user finds the study at."""
        if not self.remote:
            return str(self.folder)
        address, _, query = self.results_dir.partition("?")
        return f"{address.rstrip('/')}/{self.name}{'?' * bool(query)}{query}"

    def save(self, name: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Writes a checkpoint whole or not at all, for every machine of the study."""
        from tuning import checkpoint

        if not self.remote:
            checkpoint.save(self.folder / name, tensors, meta)
            return
        with tempfile.TemporaryDirectory() as aside:
            path = Path(aside, "checkpoint")
            checkpoint.save(path, tensors, meta)
            _persistently(lambda: self._send(path, name))

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the JSON of a checkpoint that exists.

        Raises:
            Damaged: it is not what was written.
        """
        from tuning import checkpoint

        if not self.remote:
            return checkpoint.load(self.folder / name)
        with tempfile.TemporaryDirectory() as aside:
            path = Path(aside, Path(name).name)
            _persistently(lambda: self._fetch(name, path))
            return checkpoint.load(path)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return _persistently(lambda: self._info(name).is_file) if self.remote else (self.folder / name).exists()

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it; there may be none."""
        if not self.remote:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            return
        known, (system, path_there) = self._info(name), self._there(name)
        with errors(str(self)):
            if known.is_file:
                system.delete_file(path_there)
            elif known.type.name == "Directory":
                system.delete_dir(path_there)

    def send(self, name: str) -> None:
        """Brings a file of `folder` to where other machines find it."""
        if self.remote:
            self._send(self.folder / name, name)

    def fetch(self, name: str) -> None:
        """Brings a file into `folder`, where it is not kept there; there may be none."""
        if self.remote and self.exists(name):
            self._fetch(name, self.folder / name)

    def pull(self) -> None:
        """Brings `folder` up to date, unless it is ahead: its driver may have died before it had sent all."""
        if not self.remote or ((self.folder / STUDY_FILE).exists() and self.in_step()):
            return
        for name in self.listing():
            self._fetch(name, self.folder / name)

    def in_step(self) -> bool:
        """Whether `folder` knows all that the object store does of the study: its journal begins with the one there."""
        if JOURNAL not in self.listing():
            return True
        own = self.folder / JOURNAL
        return own.exists() and own.read_bytes().startswith(self.read(JOURNAL))

    def holds_all(self) -> bool:
        """Whether the study of this machine's copy has come to where it is kept."""
        if not self.remote:
            return True
        there = {STUDY_FILE, JOURNAL} <= self.listing().keys()
        return there and self.read(JOURNAL) == (self.folder / JOURNAL).read_bytes()

    def listing(self, folder: str = "") -> dict[str, float]:
        """The files in the object store that lie in a folder of the study, with the time each was written."""
        from pyarrow.fs import FileSelector

        with errors(str(self)):
            system, path = self._there(folder)
            found = system.get_file_info(FileSelector(path.rstrip("/"), allow_not_found=True))
        return {info.base_name: info.mtime_ns / 1e9 for info in found if info.is_file}

    def write(self, name: str, content: bytes) -> float:
        """Writes a small file in the object store; gives the time there."""
        self._upload(io.BytesIO(content), name)
        return float(self._info(name).mtime_ns / 1e9)

    def read(self, name: str) -> bytes:
        """A small file of the object store."""
        content = io.BytesIO()
        self._download(name, content)
        return content.getvalue()

    def _there(self, name: str) -> tuple[FileSystem, str]:
        system, base = opened(self.results_dir)
        return system, f"{base}/{self.name}/{name}"

    def _info(self, name: str) -> Any:
        with errors(str(self)):
            system, path = self._there(name)
            return system.get_file_info(path)

    def _send(self, path: Path, name: str) -> None:
        with open(path, "rb") as file:
            self._upload(file, name)

    def _fetch(self, name: str, path: Path) -> None:
        """Downloads a file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        with open(aside, "wb") as file:
            self._download(name, file)
        os.replace(aside, path)

    def _upload(self, file: IO[bytes], name: str) -> None:
        with errors(str(self)):
            system, there = self._there(name)
            with system.open_output_stream(there) as stream:
                shutil.copyfileobj(file, stream, CHUNK)

    def _download(self, name: str, file: IO[bytes]) -> None:
        with errors(str(self)):
            system, there = self._there(name)
            with system.open_input_stream(there) as stream:
                shutil.copyfileobj(stream, file, CHUNK)


def check_reachable(address: str) -> None:
    """Raises if an address is not one of an object store that answers.

    Raises:
        ValueError: it is not, or there is no such bucket.
        ConnectionError: nobody answers, or the store denies it.
    """
    system, base = opened(address)
    with errors(address):
        bucket = system.get_file_info(base.partition("/")[0])
    if bucket.type.name == "NotFound":
        raise ValueError(f"there is no bucket of {address}; mend the address, or make it")


def studies(results_dir: str) -> dict[str, Storage]:
    """The studies that were started there, by name."""
    place = anchored(results_dir)
    if not is_address(place):
        return {p.parent.name: Storage(place, p.parent.name) for p in sorted(Path(place).glob(f"*/{STUDY_FILE}"))}
    from pyarrow.fs import FileSelector

    with errors(place):
        system, base = opened(place)
        names = [info.base_name for info in system.get_file_info(FileSelector(base, allow_not_found=True))]
    found = [Storage(place, name) for name in sorted(names)]
    return {storage.name: storage for storage in found if storage.exists(STUDY_FILE)}


def _persistently(act: Callable[[], Result]) -> Result:
    """What `act` gives, tried again while the object store does not answer."""
    deadline, pause = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            return act()
        except ConnectionError as error:
            if time.monotonic() + pause > deadline:
                raise
            print(f"{error}; tries again in {pause:g} s", file=sys.stderr)
        time.sleep(pause)
        pause = min(2 * pause, 30.0)
