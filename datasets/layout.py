"""Where the files of a data set with a name lie below a folder, as its reader looks for them; pure names."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The first of `folders` that has all `files` and `parts` is the set's; the archive holds one of them."""

    folders: tuple[str, ...]
    files: tuple[str, ...] = ()  # each with one of `endings`
    endings: tuple[str, ...] = ("",)
    parts: tuple[str, ...] = ()  # folders, which are taken whole
    archive: str = ""

    def __str__(self) -> str:
        names = [*self.files, *(f"{part}/" for part in self.parts)]
        shown = f"{names[0]} and {len(names) - 1} more" if len(names) > 3 else " and ".join(names)
        places = ", ".join("itself" if folder == "." else f"{folder}/" for folder in self.folders)
        return f"{shown} in {places}" + (f", or {self.archive}" if self.archive else "")


def begins(layout: Layout) -> set[str]:
    """The first parts of all paths that `chosen` may take: what else lies beside them need not be listed."""
    paths = [posixpath.join(folder, name) for folder in layout.folders for name in (*layout.files, *layout.parts)]
    return {posixpath.normpath(path).split("/")[0] for path in paths}


def chosen(paths: Collection[str], layout: Layout) -> list[str]:
    """Those of `paths` that are the set's: of the first folder that has all of it, else the archive, else none."""
    there = paths if isinstance(paths, dict | set | frozenset) else set(paths)
    for folder in layout.folders:
        found = [_with_ending(posixpath.normpath(f"{folder}/{name}"), layout.endings, there) for name in layout.files]
        parts = [_below(posixpath.normpath(f"{folder}/{part}"), paths) for part in layout.parts]
        if all(found) and all(parts):
            return [*filter(None, found), *(path for part in parts for path in part)]
    return [layout.archive] if layout.archive in there else []


def _with_ending(path: str, endings: Iterable[str], paths: Collection[str]) -> str | None:
    return next((path + ending for ending in endings if path + ending in paths), None)


def _below(folder: str, paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.startswith(f"{folder}/")]
