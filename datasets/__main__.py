"""What data sets there are: `python -m datasets`; what is in one of them: `python -m datasets digits`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import datasets
from datasets import Splits, description, sheet, summary
from datasets.catalogue import CATALOGUE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ALL_CLASSES = 20  # more are told by the smallest, the median and the largest
BAR = 24  # characters
IMAGES = 8  # of the sheet
FOOTNOTE = (
    "`python -m datasets NAME` reads one, downloading it if need be, and tells what is in it. NAME may also be a "
    "folder with one folder of images per class, or a .csv file with path,label in each line. Only digits is there "
    "already; imagenet has to be fetched by hand, with an account of image-net.org."
)
AUGMENTATIONS: tuple[Mapping[str, Any], ...] = (  # a column each, strong enough to be seen
    {"augmentation": "crop"},
    {"augmentation": "crop_flip"},
    {"augmentation": "resized_crop_flip"},
    {"jitter": 0.4},
    {"policy": "rand_augment"},
    {"policy": "trivial_augment"},
    {"erasing": 1.0},
    {"cutout": 0.5},
    {"mixup": 1.0},
    {"cutmix": 1.0},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    args = _parser().parse_args(argv)
    try:
        _check(args)
        if args.name is None:
            console = _console()
            console.print(overview())
            console.print(f"\n{FOOTNOTE}")
        else:
            _show(args)
    except ConnectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def overview() -> Table:
    """All data sets with a name."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("images of; licence: paper or page", overflow="fold")
    for title in ("classes", "train", "test"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, facts in CATALOGUE.items():
        counts = (f"{count:,}" for count in (facts.classes, facts.train, facts.test))
        shown = Text(f"{facts.shows}, {facts.native}\n").append(f"{facts.licence}: {facts.link}", style="dim")
        table.add_row(name, shown, *counts)
    return table


def _show(args: argparse.Namespace) -> None:
    """Reads one data set and prints what a user should know of it before a study."""
    splits = datasets.load(
        args.name, root=args.data_dir, seed=args.seed, image_size=args.image_size, val_fraction=args.val_fraction
    )
    found = datasets.find(args.name, args.data_dir)
    facts = _facts(description.lines(splits, found.source, found.path))
    console = _console()
    console.print(f"{splits.name}: {CATALOGUE[args.name].shows if args.name in CATALOGUE else found.place}\n")
    console.print(facts)
    console.print()
    console.print(balance(splits))
    if args.sheet:
        write_sheet(splits, Path(args.sheet), args.seed)
        console.print(f"\nwrote {args.sheet}, each column under the setting that makes it, as in --set jitter=0.4")


def _facts(lines: Mapping[str, Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, texts in lines.items():
        for number, text in enumerate(texts):
            table.add_row("" if number else title, text)
    return table


def balance(splits: Splits) -> Table:
    """Images of each class in each part, or of three classes where there are many."""
    from rich import box
    from rich.table import Table

    parts = description.parts_of(splits)
    counts = {name: summary.class_counts(part.labels, len(splits.classes)) for name, part in parts.items()}
    train = counts["train"]
    rows: dict[str, int] = {name: index for index, name in enumerate(splits.classes)}
    if len(splits.classes) > ALL_CLASSES:
        order = np.argsort(train, kind="stable")
        chosen = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
        rows = {f"{title}: {splits.classes[index]}": int(index) for title, index in chosen.items()}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    table.add_column("class" if splits.task == "single" else "label")
    for title in counts:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("train, to scale", no_wrap=True)
    for title, index in rows.items():
        bar = "█" * max(round(BAR * train[index] / train.max()), min(train[index], 1))
        table.add_row(title, *(f"{count[index]:,}" for count in counts.values()), bar)
    return table


def write_sheet(splits: Splits, path: Path, seed: int) -> None:
    """A few training images of different classes, each beside what every augmentation makes of it."""
    chosen = summary.of_different_classes(splits.train.labels, IMAGES)
    few = splits.train.take(chosen)
    rows = [_class_names(label, splits.classes) for label in few.labels]
    originals = few.images
    sheet.draw(rows, [sheet.Column("original", originals), *_augmented(originals, seed)]).save(path)


def _class_names(label: Any, classes: Sequence[str]) -> str:
    chosen = np.flatnonzero(label == 1).tolist() if np.ndim(label) else [int(label)]
    return ", ".join(classes[index] for index in chosen) or "no label"


def _augmented(originals: np.ndarray[Any, np.dtype[np.uint8]], seed: int) -> Iterator[sheet.Column]:
    """The training's own code, the only part of it that this package knows."""
    import torch

    from tuning.augment import augment, mix
    from tuning.spec import HParams

    images = torch.tensor(originals)
    for setting in AUGMENTATIONS:
        hparams = HParams(lr=0.1, **setting)
        generator = torch.Generator().manual_seed(seed)
        changed = augment(images, hparams, generator)
        if hparams.mixup or hparams.cutmix:
            mixed, _ = mix(images.float(), torch.zeros(len(images), 1), hparams, generator)
            changed = mixed.round().to(torch.uint8)
        ((name, value),) = setting.items()
        yield sheet.Column(f"{name}=\n{value}", changed.numpy())


def _console() -> Console:
    from rich.console import Console

    wide = Console(width=140, markup=False, highlight=False, emoji=False)  # a pipe has no width to fit into
    return Console(markup=False, highlight=False, emoji=False) if wide.is_terminal else wide


def _check(args: argparse.Namespace) -> None:
    limits = {"image_size": (1, 2048), "seed": (0, 2**32 - 1), "val_fraction": (0.01, 0.9)}
    for name, (low, high) in limits.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name.replace('_', '-')} must be from {low:,} to {high:,}, got {value}")
    if args.sheet:
        if args.name is None:
            raise ValueError(
                "--sheet needs the name of a data set, such as: python -m datasets digits --sheet FILE.png"
            )
        sheet.check_path(Path(args.sheet))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME|FOLDER|FILE.csv",
                        help="read this data set and tell what is in it (default: list all with a name)")  # fmt: skip
    parser.add_argument("--data-dir", default="data", metavar="DIR",
                        help="where data sets lie or are downloaded to (default: %(default)s)")  # fmt: skip
    parser.add_argument("--image-size", type=int, metavar="PX", help="side of the images (default: the set's own)")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="of the choice of validation images, and of the sheet (default: %(default)s)")  # fmt: skip
    parser.add_argument("--val-fraction", type=float, default=0.1, metavar="F",
                        help="share of the training images to validate with (default: %(default)s)")  # fmt: skip
    parser.add_argument("--sheet", metavar="FILE.png",
                        help="draw what each augmentation makes of a few training images")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
