"""What architectures there are: `python -m models`, one of them layer by layer: `python -m models vgg19`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import models
from models.registry import ARCHITECTURES, CIFAR, IMAGENET, Architecture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES = 1000  # that parameters are counted for, as the papers do


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.plot:
            chart().savefig(Path(args.plot), dpi=150)
            print(f"wrote {args.plot}")
        elif args.name:
            entry = models.architecture(args.name)
            print(summary(args.name, args.image_size or entry.native_size, args.classes))
        else:
            show_table()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parameters(name: str, entry: Architecture) -> int:
    """The number of parameters for ImageNet's classes at the native size; nothing is allocated."""
    import torch

    with torch.device("meta"):
        network = models.build(name, num_classes=CLASSES, image_size=entry.native_size)
    return sum(parameter.numel() for parameter in network.parameters())


def show_table() -> None:
    """Prints all architectures, the oldest first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="timm:NAME reaches every architecture of timm besides", caption_justify="left")
    table.add_column("name", no_wrap=True)
    for title in ("family", "year", "paper"):
        table.add_column(title)
    for title in (f"parameters, {CLASSES:,} classes", "smallest px", "native px"):
        table.add_column(title, justify="right")
    counted = [(parameters(name, entry), name, entry) for name, entry in ARCHITECTURES.items()]
    for count, name, entry in sorted(counted, key=lambda row: (row[2].year or 0, row[2].family, row[0])):
        smallest = f"{entry.min_size}" + (f", x {entry.multiple}" if entry.multiple > 1 else "")
        cells = (name, entry.family, str(entry.year), entry.paper, f"{count:,}")
        table.add_row(*cells, smallest, str(entry.native_size))
    console = Console()
    console = console if console.is_terminal else Console(width=140)  # a pipe has no width to fit into
    console.print(table)


def summary(name: str, image_size: int, classes: int) -> str:
    """Layers with their shapes, parameters and multiply-adds, by torchinfo."""
    import torch
    from torchinfo import summary as summarise

    network = models.build(name, num_classes=classes, image_size=image_size)
    with torch.inference_mode():
        statistics = summarise(
            network,
            input_size=(1, 3, image_size, image_size),
            col_names=("output_size", "num_params", "mult_adds"),
            mode="eval",
            device="cpu",
            verbose=0,
        )
    text = str(statistics)
    for unit in ("MEGABYTES", "GIGABYTES", "TERABYTES"):  # torchinfo 1.8 prints the name of an enum since Python 3.11
        text = text.replace(f"Units.{unit}", unit[0])
    return text


def chart() -> Figure:
    """Size against published accuracy, a panel for each benchmark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    oldest_first = sorted(ARCHITECTURES.items(), key=lambda item: item[1].year or 0)
    known = [(name, entry) for name, entry in oldest_first if entry.published]
    families = list(dict.fromkeys(entry.family for _, entry in known))
    for axes, benchmark in zip(figure.subplots(1, 2), (IMAGENET, CIFAR), strict=True):
        for index, family in enumerate(families):
            members = [(name, e) for name, e in known if e.family == family and e.benchmark == benchmark]
            sizes = [parameters(name, entry) / 1e6 for name, entry in members]
            axes.scatter(sizes, [e.published for _, e in members], color=f"C{index % 10}", marker="os^"[index // 10],
                         label=family if members else None, s=28)  # fmt: skip
            for (name, entry), size in zip(members, sizes, strict=True):
                axes.annotate(name, (size, entry.published), xytext=(4, 3), textcoords="offset points", fontsize=6)
        axes.set_xscale("log")
        axes.set_xlabel(f"parameters for {CLASSES:,} classes, millions")
        axes.set_ylabel(f"published accuracy on {benchmark}, %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("name", nargs="?", help="print the layers of this architecture (default: list all)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="for the layers (default: the native size)")
    parser.add_argument("--classes", type=int, default=CLASSES, metavar="N", help="likewise (default: %(default)s)")
    parser.add_argument("--plot", nargs="?", const="models.png", metavar="FILE",
                        help="write a chart of size against published accuracy (default: models.png)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
