"""A CSV file of images and their labels: `path,label[,label...]` a line, one label each or several."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.source import Labels, Listed, Source
from datasets.splits import TEST_FRACTION, stratified_split

HEADER = "path"  # first cell of a first line that is no image


@dataclass(frozen=True)
class Row:
    """One image of the table."""

    line: int  # from 1
    file: Path
    labels: frozenset[str]


def read(root: Path, name: str) -> Source:
    """Of the .csv file `root`; paths in it are absolute or start at its folder."""
    rows = list(read_rows(root))
    classes = tuple(sorted({label for row in rows for label in row.labels}))
    if len(classes) < 2:
        raise ValueError(f"{root} needs at least two classes, found {', '.join(classes) or 'none'}: path,label a line")
    _check_files(root, rows)
    multi = any(len(row.labels) != 1 for row in rows)
    labels = _labels(rows, classes, multi=multi)
    kept, held_out = stratified_split(labels, TEST_FRACTION, 0, classes)
    train, test = (
        Listed(files=tuple(rows[index].file for index in chosen), labels=labels[chosen], whole=multi)
        for chosen in (kept, held_out)
    )
    return Source(train=train, test=test, classes=classes, task="multi" if multi else "single")


def read_rows(table: Path) -> Iterator[Row]:
    """The lines that name an image; a `ValueError` that names the line where they are no such table."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            first = True
            for cells in reader:
                path, *labels = (cell.strip() for cell in cells or [""])
                blank, header = not any((path, *labels)), first and path.lower() == HEADER
                first = first and blank
                if blank or header:
                    continue
                if not path:
                    raise ValueError(f"{table}, line {reader.line_num}: no path before the label {labels[0]!r}")
                yield Row(reader.line_num, table.parent / path, frozenset(filter(None, labels)))
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 ({error.reason} at byte {error.start}); save it as that") from error
    except csv.Error as error:
        raise ValueError(f"{table}, line {reader.line_num}: {error}; mend it") from error
    except OSError as error:
        raise ValueError(f"cannot read {table} ({error.strerror})") from error


def _check_files(table: Path, rows: Sequence[Row]) -> None:
    missing = [row for row in rows if not os.path.isfile(row.file)]
    if missing:
        raise ValueError(
            f"{table}: {len(missing)} of {len(rows)} images are missing, the first is {missing[0].file} "
            f"in line {missing[0].line}; mend the paths or remove the lines"
        )
    first: dict[str, int] = {}
    for row in rows:
        before = first.setdefault(os.path.normpath(row.file), row.line)
        if before != row.line:
            raise ValueError(
                f"{table} has {row.file} in line {before} and again in line {row.line}; "
                "put all labels of an image into one line"
            )


def _labels(rows: Sequence[Row], classes: Sequence[str], *, multi: bool) -> Labels:
    number = {name: index for index, name in enumerate(classes)}
    if not multi:
        return np.array([number[label] for row in rows for label in row.labels], np.int64)
    labels = np.zeros((len(rows), len(classes)), np.int64)
    for index, row in enumerate(rows):
        labels[index, [number[label] for label in row.labels]] = 1
    return labels
