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

from cluster.session import local_resources
from tuning.addresses import absolute_uri, database_path
from tuning.levels import TITLES, rows
from tuning.prepare import Prepared, slots
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
    console.print(_levels_table(prepared) if prepared.one_factor else _space_table(spec.model, prepared.space))
    sizes = f"{len(splits.train):,} to train, {len(splits.val):,} to validate"
    shape = f"{splits.channels} x {splits.image_size} x {splits.image_size}"
    seeds = f": {len(prepared.levels)} levels, {spec.seeds} seeds each" if prepared.one_factor else ""
    stops_early = spec.scheduler == "asha" and len(spec.rungs) > 1
    rungs = (
        f"compared at epochs {', '.join(map(str, spec.rungs))}" if stops_early else "none: no trial is stopped early"
    )
    facts = [
        ("data", f"{splits.name}: {sizes}, {len(splits.classes)} classes, {shape}"),
        ("budget", f"{spec.trials} trials of at most {spec.epochs} epochs{_limits(spec)}{seeds}"),
        ("rungs", rungs),
        ("resources", _resources(prepared)),
        ("finals", "every level's checkpoints, once on the test set" if prepared.one_factor else _finals(spec.finals)),
        ("results", str(prepared.folder)),
        ("MLflow", absolute_uri(spec.tracking_uri)),
    ]
    _facts(console, [*facts, *(("note", note) for note in prepared.notes())])
    console.print("dry run: nothing was started")


def _space_table(model: str, space: SearchSpace) -> Table:
    table = Table(title=f"search space of {model}", title_justify="left")
    for title in ("hyperparameter", "values", "published recipe"):
        table.add_column(title)
    for name in space.distributions:
        table.add_row(name, space.describe(name), _short(space.recipe.get(name, "-")))
    for name, value in space.fixed.items():
        table.add_row(name, space.describe(name), _short(value))
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
    console.print(f"{result.name}: trial {result.trial} of {result.trials} wins", style="bold", soft_wrap=True)
    table = Table()
    table.add_column(result.score)
    for column in ("winner", "published recipe"):
        table.add_column(column, justify="right")
    table.add_row("validation", _percent(result.val_accuracy), _percent(result.baseline_val_accuracy))
    table.add_row("test", _percent(result.test_accuracy), _percent(result.baseline_test_accuracy))
    console.print(table)
    ended = [f"{count} {name}" for name, count in _outcomes(result) if count]
    facts = [
        ("verdict", result.verdict),
        ("winner", describe(result.config)),
        ("trials", f"{result.trials}: {', '.join(ended)}"),
        ("checkpoint", str(result.checkpoint)),
        *_whereabouts(prepared, result),
    ]
    _facts(console, facts)


def show_levels(console: Console, prepared: Prepared, result: OneFactorResult) -> None:
    """The levels of a one-factor study against the first, and where everything lies."""
    table = Table(title=result.question, title_justify="left")
    for title in TITLES:
        table.add_column(title, justify="left" if title == TITLES[0] else "right")
    for row in rows(result):
        table.add_row(*row)
    console.print(table)
    console.print("mean +- standard deviation over the seeds; differences on the test images with their 95 % interval")
    facts = [
        *([("published", result.published)] if result.published else []),
        *_whereabouts(prepared, result),
    ]
    _facts(console, facts)


def show_leaderboard(console: Console, results: Sequence[StudyResult]) -> None:
    """Several architectures under the same data, seeds and budget, the best test accuracy first."""
    table = Table(title="leaderboard", title_justify="left")
    for title in ("model", "validation", "test", "published recipe, test", "study"):
        table.add_column(title)
    for result in sorted(results, key=lambda result: -result.test_accuracy):
        scores = (result.val_accuracy, result.test_accuracy, result.baseline_test_accuracy)
        table.add_row(result.model, *map(_percent, scores), result.name)
    console.print(table)


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
    for name, fact in facts:  # whole lines, so that paths and addresses can be copied
        console.print(f"{name:<10}  {fact}", soft_wrap=True, markup=False, highlight=False)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _percent(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.2f} %"


def _resources(prepared: Prepared) -> str:
    spec = prepared.spec
    if spec.address != "local":
        gpus = "a GPU if there is one" if spec.gpus_per_trial is None else f"{spec.gpus_per_trial:g} GPUs"
        return (
            f"{spec.cpus_per_trial:g} CPUs and {gpus} a trial, as many at once as the cluster at {spec.address} takes"
        )
    count, trial = slots(spec, local_resources())
    return f"a private Ray here with {local_resources()}: {count} trials at once with {trial} each"


def _limits(spec: StudySpec) -> str:
    limits = [f"{spec.epoch_budget:,} epochs in all"] if spec.epoch_budget else []
    limits += [duration(spec.time_budget)] if spec.time_budget else []
    limits += [f"{spec.gpu_hours:g} GPU-hours"] if spec.gpu_hours else []
    return "".join(f", {limit}" for limit in limits)


def _finals(finals: str) -> str:
    best, seeds = finals.split("x")
    if finals == "1x1":
        return "the winner's and the published recipe's checkpoints, once on the test set"
    return f"the {best} best and the published recipe, trained again over {seeds} seeds, then once on the test set"


def _outcomes(result: StudyResult) -> list[tuple[str, int]]:
    names = ("completed", "stopped", "diverged", "failed", "interrupted")
    return [(name, sum(record.outcome == name for record in result.records.values())) for name in names]
