"""A contact sheet: images in rows, what was made of them in columns, with names on both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.source import Pixels

SUFFIXES = (".png", ".jpg", ".jpeg")
CELL = 128  # pixels a side of an image at least, as far as whole multiples of its own reach
GAP = 8
HEADER = 40  # two lines of text
MARGIN = 110  # for the names of rows
FONT = 13


@dataclass(frozen=True)
class Column:
    title: str  # of one line or two
    images: Pixels  # (rows, C, H, W)


def check_path(path: Path) -> None:
    """Refuses a file that could not be written, before the work for it is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a sheet is written as {', '.join(SUFFIXES)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: you may not write to {path.parent}; name another place")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file")


def draw(rows: Sequence[str], columns: Sequence[Column]) -> Image.Image:
    """The sheet, small images enlarged by a whole factor and without smoothing."""
    font = ImageFont.load_default(size=FONT)
    size = columns[0].images.shape[-1]
    side = size * magnification(size)
    sheet = Image.new("RGB", (place(len(columns), side), _top(len(rows), side)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(rows):
        middle = _top(row, side) + side // 2
        pen.text((GAP, middle), _shortened(name, pen, font), fill="black", font=font, anchor="lm")
    for index, column in enumerate(columns):
        pen.multiline_text((place(index, side), GAP // 2), column.title, fill="black", font=font, spacing=2)
        for row, pixels in enumerate(column.images):
            sheet.paste(_picture(pixels, side), (place(index, side), _top(row, side)))
    return sheet


def magnification(size: int) -> int:
    """The whole factor that small images are shown at."""
    return -(-CELL // size)


def place(column: int, side: int) -> int:
    """The left edge of a column."""
    return MARGIN + column * (side + GAP)


def _top(row: int, side: int) -> int:
    return HEADER + row * (side + GAP)


def _picture(pixels: Pixels, side: int) -> Image.Image:
    colours = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(colours)).resize((side, side), Image.Resampling.NEAREST)


def _shortened(name: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    room = MARGIN - 2 * GAP
    if pen.textlength(name, font=font) <= room:
        return name
    while pen.textlength(f"{name}...", font=font) > room:
        name = name[:-1]
    return f"{name}..."
