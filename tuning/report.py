"""The study on one page: `report.html`, with its plots inside, to open, mail or keep."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datasets import Splits
from tuning import front
from tuning.audit import Audit
from tuning.objectives import Objectives
from tuning.outcome import StudyResult
from tuning.record import TrialRecord, recipe_of
from tuning.spec import METRIC, StudySpec
from tuning.view import describe

REPORT = "report.html"
WINNER_COLOUR, BASELINE_COLOUR, OTHER_COLOUR = "#0b7a3b", "#c2410c", "#b8bcc4"
FRONT_COLOUR = "#2457a6"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c2128 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th, td.text { text-align: left } td.number { font-variant-numeric: tabular-nums } svg { max-width: 100%; height: auto }
.winner { background: #e8f5ec } .baseline { background: #fdf0e7 } .quiet { color: #667 }
"""


def write(result: StudyResult, spec: StudySpec, splits: Splits, sections: Sequence[str] = ()) -> None:
    """Writes the page into the study's folder; `sections` come after the scores."""
    winner = f"{result.model}: test" if result.architectures else "Test"
    sizes = dict.fromkeys(each.image_size for each in result.architectures) or [splits.image_size]
    body = [
        f"<h1>{escape(', '.join(spec.architectures))} on {escape(result.dataset)}</h1>",
        f"<p><b>{escape(winner)} {result.score} {100 * result.test_accuracy:.2f} %</b>; {escape(result.verdict)}.</p>",
        f"<p class='quiet'>Study {escape(result.name)}: {result.trials} trials of at most {spec.epochs} epochs, "
        f"seed {spec.seed}; {len(splits.train):,} images to train, {len(splits.val):,} to validate, "
        f"{len(splits.test):,} to test, at {' and '.join(map(str, sizes))} px.</p>",
        *(f"<p class='quiet'>{escape(note)}</p>" for note in (*splits.notes, *splits.test.notes)),
        _scores(result),
        *(_front(result, spec.goals) if spec.goals.several else []),
        *sections,
        "<h2>Learning curves</h2>",
        _plot(result, [(METRIC, f"validation {result.score}"), ("val_loss", "validation loss")]),
        _plot(result, [("train_accuracy", "training accuracy, augmented"), ("train_loss", "training loss, augmented")]),
        *([_early_stopping(result.audit)] if result.audit else []),
        "<h2>The winner</h2>",
        table(["hyperparameter", "value"], [[key, _number(value)] for key, value in result.config.items()]),
        "<h2>All trials, the best first</h2>",
        _trials(result, spec.goals),
    ]
    (result.folder / REPORT).write_text(page(result.name, body))


def page(title: str, body: Sequence[str]) -> str:
    """A whole HTML page of finished parts."""
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'>{head}" + "\n".join(body) + "</html>\n"


def _scores(result: StudyResult) -> str:
    rows = [
        ["validation", _percent(result.val_accuracy), _percent(result.baseline_val_accuracy)],
        ["test", _percent(result.test_accuracy), _percent(result.baseline_test_accuracy)],
    ]
    recipe = recipe_of(result.records[result.trial], result.records)
    number = f" (trial {recipe.number})" if recipe else ""
    return table([result.score, f"winner (trial {result.trial})", f"published recipe{number}"], rows)


def _early_stopping(audit: Audit) -> str:
    """How far the stops can be trusted."""
    rows = [
        [str(a.epoch), f"{a.correlation:.2f}", f"{a.interval[0]:.2f} to {a.interval[1]:.2f}", str(a.trials)]
        for a in audit.agreements
    ]
    titles = ["epoch", "rank correlation with the last epoch", "95 % interval", "trials that ran to the end"]
    return "".join(
        [
            "<h2>Early stopping</h2>",
            *(f"<p><b>{escape(warning)}</b></p>" for warning in audit.warnings),
            f"<p>{escape(str(audit))}.</p>",
            *(f"<p>Of the audited trials that ended among the best, {escape(trait)}.</p>" for trait in audit.shared),
            table(titles, rows) if rows else "",
        ]
    )


def _front(result: StudyResult, goals: Objectives) -> list[str]:
    """The accuracy of all trials over each other objective, and a table of the front."""
    figure = Figure(figsize=(5 * max(len(goals.names) - 1, 1.4), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(goals.names) - 1, squeeze=False)[0], goals.names[1:], strict=True):
        _scatter(axes, name, result, goals)
    figure.axes[0].set_ylabel(f"validation {result.score}")
    figure.axes[0].legend(frameon=False, fontsize=8)
    if not result.front:
        return ["<h2>The front</h2><p>No completed trial satisfies the constraints.</p>", svg(figure)]
    recipes = {record.number for record in result.records.values() if record.recipe}
    classes = ["winner" if t.trial == result.trial else "baseline" if t.trial in recipes else "" for t in result.front]
    columns = [*front.titles(goals), "checkpoint"]
    cells = [[*row, t.checkpoint] for row, t in zip(front.rows(result.front), result.front, strict=True)]
    about = "<p>The completed trials that no other one beats in everything; hollow dots were stopped early.</p>"
    return ["<h2>The front</h2>", about, svg(figure), table(columns, cells, classes)]


def _scatter(axes: Axes, name: str, result: StudyResult, goals: Objectives) -> None:
    """One dot a trial, hollow if it was not completed; the staircase is what the front reaches."""
    members = {member.trial for member in result.front}
    for record in sorted(result.records.values(), key=lambda record: _prominence(record, result)):
        if record.best:
            look = _look(record, result)
            colour, label = look["color"], look.get("label")
            if colour == OTHER_COLOUR and record.number in members:
                colour = FRONT_COLOUR
            axes.plot(record.best[name], record.best[METRIC], "o", color=colour, label=label, markersize=6,
                      markerfacecolor=colour if record.complete else "none", zorder=3)  # fmt: skip
    if len(goals.names) == 2 and members:
        corners = sorted((member.values[name], member.values[METRIC]) for member in result.front)
        axes.step(*zip(*corners, strict=True), where="post", color=FRONT_COLOUR, linewidth=1.2, label="front")
    for constraint in goals.constraints:
        if constraint.name in (name, METRIC):
            line = axes.axvline if constraint.name == name else axes.axhline
            line(constraint.limit, color=BASELINE_COLOUR, linewidth=0.8, linestyle="--", label=str(constraint))
    axes.set_xlabel(name.replace("_", " "))
    axes.spines[["top", "right"]].set_visible(False)


def _plot(result: StudyResult, panels: Sequence[tuple[str, str]]) -> str:
    """One panel a metric over the epochs; winner and published recipe in colour, the others behind them."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for record in sorted(result.records.values(), key=lambda record: _prominence(record, result)):
            look = architecture_look(record, result) if result.architectures else _look(record, result)
            epochs = [metrics["epoch"] for metrics in record.epochs]
            marker = "o" if len(epochs) == 1 else None
            values = [metrics[metric] for metrics in record.epochs]
            axes.plot(epochs, values, marker=marker, markersize=3, **look)
        label_epochs(axes, metric, label)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return svg(figure)


def label_epochs(axes: Axes, metric: str, label: str) -> None:
    """Makes a panel one of `metric` over epochs."""
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric.endswith("loss"):
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)


def svg(figure: Figure) -> str:
    """The figure as an element of a page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _prominence(record: TrialRecord, result: StudyResult) -> int:
    if record.number in winners(result):
        return 2
    return 1 if record.recipe else 0


def winners(result: StudyResult) -> set[int | None]:
    """The numbers of the winner, and of the winner of each architecture."""
    return {result.trial, *(each.trial for each in result.architectures)}


def _look(record: TrialRecord, result: StudyResult) -> dict[str, Any]:
    if record.number == result.trial:
        return {"color": WINNER_COLOUR, "linewidth": 2.0, "label": f"winner (trial {record.number})"}
    if record.recipe:
        return {"color": BASELINE_COLOUR, "linewidth": 2.0, "label": f"published recipe (trial {record.number})"}
    return {"color": OTHER_COLOUR, "linewidth": 0.9}


def architecture_look(record: TrialRecord, result: StudyResult) -> dict[str, Any]:
    """A colour for each architecture: its winner thick, its published recipe dashed, the others behind them."""
    colour, name = colours(result)[record.model], f"{record.label} (trial {record.number})"
    if record.number in winners(result):
        return {"color": colour, "linewidth": 2.2, "label": name}
    if record.recipe:
        return {"color": colour, "linewidth": 1.5, "linestyle": "--", "label": name}
    return {"color": colour, "linewidth": 0.9, "alpha": 0.4}


def colours(result: StudyResult) -> dict[str, str]:
    """A colour for each architecture."""
    return {each.model: f"C{index % 10}" for index, each in enumerate(result.architectures)}


def _trials(result: StudyResult, goals: Objectives) -> str:
    rows, classes = [], []
    for record in sorted(result.records.values(), key=lambda record: (-record.score, record.number)):
        score = f"{record.score:.4f}" if record.epochs else "-"
        costs = [front.shown(name, record.best[name]) if record.best else "-" for name in goals.costs]
        rows.append(
            [str(record.number), score, *costs, str(len(record.epochs)), record.outcome, describe(record.config)]
        )
        classes.append("winner" if record.number in winners(result) else "baseline" if record.recipe else "")
    costs = [name.replace("_", " ") for name in goals.costs]
    columns = ["trial", f"best validation {result.score}", *costs, "epochs", "outcome", "configuration"]
    return table(columns, rows, classes)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] | None = None) -> str:
    """An HTML table of text cells; `classes` are those of the rows."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(
            f"<td class='{'number' if cell.lstrip('+-')[:1].isdigit() else 'text'}'>{escape(cell)}</td>" for cell in row
        )
        lines.append(f"<tr class='{classes[index] if classes else ''}'>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _percent(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.2f} %"
