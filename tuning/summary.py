"""What the terminal shows before a study (--dry-run) and after it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from cluster.resources import Cluster
from cluster.session import local_resources
from search_spaces import short
from tuning import leaderboard, levels
from tuning.addresses import absolute_uri, database_path
from tuning.front import rows, titles
from tuning.prepare import Prepared, slots
from tuning.spec import AUTO, METRIC, StudySpec
from tuning.view import describe, duration

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from tuning.levels import OneFactorResult
    from tuning.outcome import StudyResult
    from tuning.spec import StudySpec

UI_ADDRESS = "http://127.0.0.1:5000"


def show_plan(console: Console, prepared: Prepared) -> None:
    """All that a study would do."""
    spec, splits = prepared.spec, prepared.splits
    if prepared.one_factor:
        console.print(_levels_table(prepared))
    for part in [] if prepared.one_factor else prepared.architectures.values() or [prepared]:
        console.print(_space_table(part.spec.model, part.space))
    sizes = f"{len(splits.train):,} to train, {len(splits.val):,} to validate"
    seeds = f": {len(prepared.levels)} levels, {spec.seeds} seeds each" if prepared.one_factor else ""
    rungs = (
        f"compared at epochs {', '.join(map(str, spec.rungs))}"
        if spec.stops_early
        else "none: no trial is stopped early"
    )
    facts = [
        ("data", f"{splits.name}: {sizes}, {len(splits.classes)} classes, {_shapes(prepared)}"),
        ("budget", f"{spec.trials} trials of at most {spec.epochs} epochs{_limits(spec)}{seeds}"),
        *([("shared by", _shared_by(prepared))] if spec.rivals else []),
        ("rungs", rungs),
        *([] if str(spec.goals) == METRIC else [("objectives", str(spec.goals))]),
        ("resources", _resources(prepared)),
        ("finals", "every level's checkpoints, once on the test set" if prepared.one_factor else _finals(spec)),
        ("results", str(prepared.storage)),
        ("MLflow", absolute_uri(spec.tracking_uri)),
    ]
    _facts(console, [*facts, *(("note", note) for note in prepared.notes())])
    console.print("dry run: nothing was started")


def _space_table(model: str, space: SearchSpace) -> Table:
    table = Table(title=f"search space of {model}", title_justify="left")
    for title in ("hyperparameter", "values", "published recipe"):
        table.add_column(title)
    for name in space.distributions:
        table.add_row(name, space.describe(name), short(space.recipe.get(name, "-")))
    for name, value in space.fixed.items():
        table.add_row(name, space.describe(name), short(value))
    return table


def _levels_table(prepared: Prepared) -> Table:
    """What each level differs in, and what all of them share."""
    assert prepared.one_factor
    shared = prepared.shared()
    table = Table(title=prepared.one_factor.question, title_justify="left")
    for title in ("level", "settings"):
        table.add_column(title)
    for name, level in prepared.levels.items():
        own = {key: value for key, value in level.settings().items() if key not in shared}
        table.add_row(name, describe(own) or "-")
    table.add_section()
    table.add_row("all levels", describe(shared))
    return table


def show_result(console: Console, prepared: Prepared, result: StudyResult) -> None:
    """The winner, how good it is, and where everything lies."""
    model = f", {result.model}," if result.architectures else ""
    console.print(f"{result.name}: trial {result.trial}{model} of {result.trials} wins", style="bold", soft_wrap=True)
    console.print(_leaderboard(result) if result.architectures else _scores(result))
    if result.front:
        console.print(_front(prepared, result))
    ended = [f"{count} {name}" for name, count in _outcomes(result) if count]
    facts = [
        *([("verdict", result.verdict)] if not result.architectures else []),
        *((each.model, each.verdict) for each in result.architectures),
        ("winner", describe(result.config)),
        ("trials", f"{result.trials}: {', '.join(ended)}"),
        *([("stopping", str(result.audit))] if result.audit else []),
        *(("warning", warning) for warning in (result.audit.warnings if result.audit else ())),
        ("checkpoint", str(result.checkpoint)),
        *_whereabouts(prepared, result),
    ]
    _facts(console, facts)


def _front(prepared: Prepared, result: StudyResult) -> Table:
    table = Table(title="front: the trials that no other one beats in everything", title_justify="left")
    for title in titles(prepared.spec.goals):
        table.add_column(title, justify="right")
    for member, row in zip(result.front, rows(result.front), strict=True):
        table.add_row(*row, style="bold" if member.trial == result.trial else None)
    return table


def _scores(result: StudyResult) -> Table:
    table = Table()
    table.add_column(result.score)
    for column in ("winner", "published recipe"):
        table.add_column(column, justify="right")
    table.add_row("validation", _percent(result.val_accuracy), _percent(result.baseline_val_accuracy))
    table.add_row("test", _percent(result.test_accuracy), _percent(result.baseline_test_accuracy))
    return table


def _leaderboard(result: StudyResult) -> Table:
    table = Table(title=f"{result.score} on {result.dataset}", title_justify="left")
    for title in leaderboard.TITLES:
        first = title == leaderboard.TITLES[0]
        table.add_column(title, justify="left" if first else "right", no_wrap=first)
    for row in leaderboard.rows(result.architectures):
        table.add_row(*row)
    return table


def show_levels(console: Console, prepared: Prepared, result: OneFactorResult) -> None:
    """The levels of a one-factor study against the first, and where everything lies."""
    table = Table(title=result.question, title_justify="left")
    for title in levels.TITLES:
        table.add_column(title, justify="left" if title == levels.TITLES[0] else "right")
    for row in levels.rows(result):
        table.add_row(*row)
    console.print(table)
    console.print("mean +- standard deviation over the seeds; differences on the test images with their 95 % interval")
    facts = [
        *([("published", result.published)] if result.published else []),
        *_whereabouts(prepared, result),
    ]
    _facts(console, facts)


def ui_command(tracking_uri: str) -> str:
    """The command that serves MLflow's pages over a local store; nothing to start where there is a server."""
    path = database_path(tracking_uri)
    if not path:
        return f"the MLflow server at {tracking_uri}"
    if path == database_path("sqlite:///mlflow.db") and Path("Makefile").exists():
        return "make ui"
    program = shutil.which("mlflow") or str(Path(sys.executable).with_name("mlflow"))
    store = shlex.quote(absolute_uri(tracking_uri))
    return f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {program} server --workers 1 --backend-store-uri {store}"


def ui_pages(tracking_uri: str, result: StudyResult | OneFactorResult) -> tuple[str, str]:
    """MLflow's pages of this study and no other: its runs, nested, and the charts of its trials, the best first."""
    server = UI_ADDRESS if database_path(tracking_uri) else tracking_uri.rstrip("/")
    study = f"tags.study = {result.name!r}"
    # without the workflow MLflow opens the pages meant for chat bots
    base = f"{server}/#/experiments/{result.experiment_id}/runs?workflowType=machine_learning&searchFilter="
    order = quote("metrics.`best_val_accuracy`")
    trials = quote(f"{study} and tags.kind = 'trial'")
    return base + quote(study), f"{base}{trials}&compareRunsMode=CHART&orderByKey={order}&orderByAsc=false"


def _whereabouts(prepared: Prepared, result: StudyResult | OneFactorResult) -> list[tuple[str, str]]:
    """How long it took, and where to look at it."""
    runs, charts = ui_pages(prepared.spec.tracking_uri, result)
    facts = [
        ("time", ", ".join(f"{name} {duration(seconds)}" for name, seconds in result.seconds.items())),
        *([("results", str(prepared.storage))] if prepared.storage.remote else []),
        ("report", str(result.folder / "report.html")),
        ("MLflow", ui_command(prepared.spec.tracking_uri)),
        ("runs", runs),
        ("charts", charts),
    ]
    if result.unsent:
        known = result.folder / "journal.jsonl"
        facts.append(("warning", f"MLflow does not know all of {result.unsent} runs; {known} does"))
    return facts


def _facts(console: Console, facts: Sequence[tuple[str, str]]) -> None:
    width = max(10, *(len(name) for name, _ in facts))
    for name, fact in facts:  # whole lines, so that paths and addresses can be copied
        console.print(f"{name:<{width}}  {fact}", soft_wrap=True, markup=False, highlight=False)


def _percent(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.2f} %"


def _resources(prepared: Prepared) -> str:
    spec = prepared.spec
    if spec.address != "local":
        asked = spec.gpus_per_trial
        gpus = f"{asked:g} GPUs" if isinstance(asked, float | int) else "a GPU if there is one"
        gpus = "as much of a GPU as a probe finds best" if asked == AUTO else gpus
        return (
            f"{spec.cpus_per_trial:g} CPUs and {gpus} a trial, as many at once as the cluster at {spec.address} takes"
        )
    count, trial = slots(spec, Cluster(nodes=(local_resources(),)))
    return f"a private Ray here with {local_resources()}: {count} trials at once with {trial} each"


def _limits(spec: StudySpec) -> str:
    limits = [f"{spec.epoch_budget:,} epochs in all"] if spec.epoch_budget else []
    limits += [duration(spec.time_budget)] if spec.time_budget else []
    limits += [f"{spec.gpu_hours:g} GPU-hours"] if spec.gpu_hours else []
    return "".join(f", {limit}" for limit in limits)


def _finals(spec: StudySpec) -> str:
    best, seeds = spec.finalists
    front = "the front's, " if spec.goals.several else ""
    leaders = "each architecture's best and published recipe" if spec.rivals else "the published recipe"
    if (best, seeds) == (1, 1):
        chosen = leaders if spec.rivals else f"{front}the winner and {leaders}"
        return f"{chosen}, as they are, once on the test set"
    return f"{front}the {best} best and {leaders}, trained again over {seeds} seeds, then once on the test set"


def _shapes(prepared: Prepared) -> str:
    """The images that are trained on; architectures may need them at different sizes."""
    parts = prepared.architectures or {"": prepared}
    shapes: dict[str, list[str]] = {}
    for model, part in parts.items():
        splits = part.splits
        shapes.setdefault(f"{splits.channels} x {splits.image_size} x {splits.image_size}", []).append(model)
    if len(shapes) == 1:
        return next(iter(shapes))
    return ", ".join(f"{shape} for {', '.join(names)}" for shape, names in shapes.items())


def _shared_by(prepared: Prepared) -> str:
    names = ", ".join(prepared.spec.architectures)
    return f"{names}: the published recipe of each first, then whose next trial is likeliest to be the best of all"


def _outcomes(result: StudyResult) -> list[tuple[str, int]]:
    names = ("completed", "stopped", "diverged", "failed", "interrupted")
    return [(name, sum(record.outcome == name for record in result.records.values())) for name in names]
