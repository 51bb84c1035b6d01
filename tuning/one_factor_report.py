"""The page of a one-factor study: `report.html` with its table, the scores of each seed and the learning curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from html import escape
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuning.levels import TITLES, OneFactorResult, rows
from tuning.prepare import Prepared
from tuning.report import REPORT, label_epochs, page, svg, table
from tuning.spec import METRIC
from tuning.view import describe


def write(result: OneFactorResult, prepared: Prepared) -> None:
    """Writes the page into the study's folder."""
    spec, splits = prepared.spec, prepared.splits
    settings = [[level.name, describe(level.settings) or "as it is"] for level in result.levels]
    published = [f"<p>Published: {escape(result.published)}</p>"] if result.published else []
    body = [
        f"<h1>{escape(result.question)}</h1>",
        *published,
        f"<p class='quiet'>Study {escape(result.name)} on {escape(result.dataset)}: {len(result.levels)} levels, "
        f"{spec.seeds} seeds each, {spec.epochs} epochs; {len(splits.train):,} images to train, "
        f"{len(splits.val):,} to validate, {len(splits.test):,} to test.</p>",
        table(TITLES, rows(result)),
        f"<p class='quiet'>Mean and standard deviation over the seeds, of the best epoch by validation {result.score}. "
        "The last but one column is the difference on the test images, paired by seed, with its 95 % interval; "
        "a tie lies inside of it.</p>",
        _scores(result),
        "<h2>Learning curves</h2>",
        "<p class='quiet'>Lines are means, bands reach from the lowest to the highest seed.</p>",
        _curves(result),
        "<h2>Levels</h2>",
        table(["level", "differs from the rest in"], settings),
        "<h2>What all levels share</h2>",
        table(["setting", "value"], [[name, str(value)] for name, value in prepared.shared().items()]),
    ]
    (result.folder / REPORT).write_text(page(result.name, body))


def markdown(result: OneFactorResult) -> str:
    """The table for MLflow's description."""
    lines = [TITLES, ["---"] * len(TITLES), *rows(result)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{result.question}** ({result.dataset})\n\n{body}\n"


def _scores(result: OneFactorResult) -> str:
    """A row for each level: a dot a seed, a bar for the mean."""
    figure = Figure(figsize=(9, 0.7 + 0.45 * len(result.levels)), layout="constrained")
    axes = figure.subplots()
    for row, (level, colour) in enumerate(_coloured(result).items()):
        accuracies = next(r for r in result.levels if r.name == level).test_accuracies
        scores = [100 * accuracy for accuracy in accuracies.values()]
        axes.plot(scores, [row] * len(scores), "o", color=colour, alpha=0.6, markersize=6)
        if scores:
            axes.plot([mean(scores)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
    axes.set_yticks(range(len(result.levels)), [level.name for level in result.levels])
    axes.invert_yaxis()
    axes.set_xlabel(f"test {result.score}, %")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def _curves(result: OneFactorResult) -> str:
    panels = {METRIC: f"validation {result.score}", "val_loss": "validation loss",
              "train_loss": "training loss, augmented"}  # fmt: skip
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for level, colour in _coloured(result).items():
            _curve(axes, _by_epoch(result, level, metric), level, colour)
        label_epochs(axes, metric, label)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return svg(figure)


def _curve(axes: Axes, values: Mapping[int, list[float]], name: str, colour: str) -> None:
    epochs = sorted(values)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, [mean(values[e]) for e in epochs], color=colour, label=name, linewidth=1.8, marker=marker)
    lowest, highest = [min(values[e]) for e in epochs], [max(values[e]) for e in epochs]
    axes.fill_between(epochs, lowest, highest, color=colour, alpha=0.15, linewidth=0)


def _by_epoch(result: OneFactorResult, level: str, metric: str) -> dict[int, list[float]]:
    values = defaultdict(list)
    for record in result.records.values():
        if record.config["level"] == level:
            for metrics in record.epochs:
                values[metrics["epoch"]].append(float(metrics[metric]))
    return values


def _coloured(result: OneFactorResult) -> dict[str, str]:
    return {level.name: f"C{index % 10}" for index, level in enumerate(result.levels)}
