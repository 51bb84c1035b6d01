"""The part of `report.html` that compares architectures: their table, and how the budget was spent among them."""

from __future__ import annotations

from html import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tuning.leaderboard import TITLES, rows
from tuning.outcome import StudyResult
from tuning.report import colours, svg, table


def sections(result: StudyResult) -> list[str]:
    """Parts of the page; none for a study of one architecture."""
    if not result.architectures:
        return []
    verdicts = [[each.model, str(each.image_size), each.verdict] for each in result.architectures]
    return [
        "<h2>Leaderboard</h2>",
        table(TITLES, rows(result.architectures), ["winner", *[""] * (len(result.architectures) - 1)]),
        f"<p class='quiet'>Each architecture by its trial with the best validation {escape(result.score)}, the best "
        "first; the column after the test scores is the difference to the first on the test images with its 95 % "
        "interval, a tie lies inside of it. All had the same images, seeds and length of training; trials went where "
        "the next one was likeliest to be the best of all.</p>",
        table(["architecture", "px", "its winner against its published recipe"], verdicts),
        "<h2>How the budget was spent</h2>",
        _spent(result),
    ]


def _spent(result: StudyResult) -> str:
    """Over the trials in the order in which they were handed out: how many each had, and its best score by then."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    spent, best = figure.subplots(1, 2)
    for model, colour in colours(result).items():
        _staircase(spent, best, result, model, colour)
    spent.set_ylabel("trials spent")
    best.set_ylabel(f"best validation {result.score}")
    for axes in (spent, best):
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    spent.yaxis.set_major_locator(MaxNLocator(integer=True))
    spent.legend(frameon=False, fontsize=8)
    return svg(figure)


def _staircase(spent: Axes, best: Axes, result: StudyResult, model: str, colour: str) -> None:
    numbers = range(max(result.records) + 1)
    own = {number: record for number, record in result.records.items() if record.model == model}
    counts = [sum(n <= number for n in own) for number in numbers]
    spent.step(numbers, counts, where="post", color=colour, label=f"{model}: {len(own)}", linewidth=1.8)
    tops = [max((r.score for n, r in own.items() if n <= number and r.epochs), default=None) for number in numbers]
    known = [(number, top) for number, top in zip(numbers, tops, strict=True) if top is not None]
    best.step([n for n, _ in known], [top for _, top in known], where="post", color=colour, linewidth=1.8)
