"""What the terminal shows while a study runs: one live view, or plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuning.front import ranked, shown
from tuning.journal import Event
from tuning.record import ENDED, Records, TrialRecord, recipe_of
from tuning.spec import METRIC, StudySpec

REFRESH_PER_SECOND = 4
ANOTHER_ATTEMPT = {"moved": "moves", "again": "is tried again"}


class View:
    """Observes a study's events; times are those since its start."""

    def __init__(self, console: Console, spec: StudySpec, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.spec, self.clock = console, spec, clock
        self.started = clock()
        self.searching: float | None = None  # since when
        self.phase = "starting"
        self.records: Records = {}
        self.waiting = ""  # for what, where trials find no place in the cluster
        self._epochs_before = 0  # of a resumed study, trained by an earlier run
        self._seconds_before = 0.0  # that it searched

    @contextmanager
    def show(self) -> Iterator[None]:
        """Shows the live view until the block ends; plain lines otherwise."""
        if not self.console.is_terminal:
            yield
            return
        with Live(
            console=self.console,
            get_renderable=self.render,
            refresh_per_second=REFRESH_PER_SECOND,
            redirect_stdout=False,  # they lead into the log file
            redirect_stderr=False,
        ):
            yield

    def enter(self, phase: str) -> None:
        """Tells that the study does something else from now on."""
        self.phase = phase
        if phase == "search":
            self.searching = self.clock()
        if not self.console.is_terminal:
            self._line(phase)

    def __call__(self, event: Event, records: Records) -> None:
        self.records = records
        if event["event"] == "search":
            self._epochs_before, self._seconds_before = event["epochs"], event["seconds"]
        if event["event"] == "waiting":
            self.waiting = event["what"]
            if self.waiting and not self.console.is_terminal:
                self._line(self.waiting)
        if event["event"] in ANOTHER_ATTEMPT:
            self._line(f"trial {event['trial']} {ANOTHER_ATTEMPT[event['event']]}: {event['reason']}")
        if event["event"] == "end" and not self.console.is_terminal:
            record = records[event["trial"]]
            how = record.reason if record.outcome == "stopped" else f"{record.outcome} {record.reason}".strip()
            score = f", its best {record.score:.4f}{self._costs(record)}" if record.epochs else ""
            name = f"trial {record.number}" + (f" ({record.label})" if record.label else "")
            self._line(f"{_counts(records, self.spec.trials)}; {name} {how}{score}{self._left()}")

    def _costs(self, record: TrialRecord) -> str:
        return "".join(f", {name} {shown(name, record.epochs[-1][name])}" for name in self.spec.goals.costs)

    def render(self) -> RenderableType:
        """The whole view as it is now."""
        done = sum(record.outcome in ENDED for record in self.records.values())
        elapsed = duration(self.clock() - self.started)
        head = Text.assemble(
            (", ".join(self.spec.architectures), "bold"),
            " on ",
            (self.spec.dataset, "bold"),
            f", study {self.spec.name}",
        )
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=self.spec.trials, completed=done, width=30),
            f"{done}/{self.spec.trials} trials, {elapsed} elapsed{self._left()}  ({self.phase})",
        )
        return Group(
            head,
            bar,
            Text("; ".join(filter(None, (_counts(self.records, None), self.waiting)))),
            self._best(),
            *self._running(),
        )

    def _best(self) -> Text:
        best = next(iter(ranked(self.records, self.spec.goals)), None)
        if best is None:
            return Text("no result yet")
        baseline = recipe_of(best, self.records)
        against = f"  ({baseline.label} {baseline.score:.4f})" if baseline and baseline.epochs else ""
        return Text.assemble(
            "best so far ",
            (f"{best.score:.4f}", "bold green"),
            f" in trial {best.number}{self._costs(best)}{against}\n",
            f"  {describe(best.config)}",
        )

    def _running(self) -> list[RenderableType]:
        running = [record for record in self.records.values() if record.outcome == "running"]
        if not running or self.searching is None:
            return []
        table = Table(box=None, header_style="dim")
        costs = self.spec.goals.costs
        for title in ("trial", "epoch", "validation", "train loss", "images/s", *costs):
            table.add_column(title, justify="right")
        for record in running:
            table.add_row(*_row(record, self.spec.epochs, costs))
        return [table]

    def _left(self) -> str:
        remaining = self.remaining()
        return "" if remaining is None else f", about {duration(remaining)} left"

    def remaining(self) -> float | None:
        """Seconds until the search is done, at this pace and if trials go on to be as long as those that ended."""
        ended = [len(record.epochs) for record in self.records.values() if record.outcome in ENDED]
        trained = sum(len(record.epochs) for record in self.records.values()) - self._epochs_before
        if self.searching is None or not trained or len(ended) >= self.spec.trials:
            return None
        expected = sum(ended) / len(ended) if ended else self.spec.epochs
        under_way = sum(min(len(r.epochs), expected) for r in self.records.values() if r.outcome not in ENDED)
        left, elapsed = (self.spec.trials - len(ended)) * expected - under_way, self.clock() - self.searching
        if self.spec.epoch_budget:
            left = min(left, self.spec.epoch_budget - self._epochs_before - trained)
        seconds = max(left, 0.0) * elapsed / trained
        if self.spec.time_budget:
            seconds = min(seconds, max(self.spec.time_budget - self._seconds_before - elapsed, 0.0))
        return seconds

    def _line(self, text: str) -> None:
        self.console.print(
            f"[{duration(self.clock() - self.started):>8}] {text}", markup=False, highlight=False, soft_wrap=True
        )


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as a person writes them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def describe(config: Mapping[str, Any]) -> str:
    """A configuration on one line, numbers at three digits."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in config.items()
    )


def _row(record: TrialRecord, epochs: int, costs: Sequence[str]) -> tuple[str, ...]:
    name = f"{record.number} ({record.label})" if record.label else str(record.number)
    if not record.epochs:
        return name, f"0/{epochs}", "", "", ""
    last = record.epochs[-1]
    return (
        name,
        f"{last['epoch']}/{epochs}",
        f"{last[METRIC]:.4f}",
        f"{last['train_loss']:.4f}",
        f"{last['images_per_second']:,.0f}",
        *(shown(name, last[name]) for name in costs),
    )


def _counts(records: Records, total: int | None) -> str:
    outcomes = [record.outcome for record in records.values()]
    ended = "" if total is None else f"{sum(outcome in ENDED for outcome in outcomes)}/{total}  "
    shown = [
        f"{outcomes.count('running')} running",
        f"{outcomes.count('stopped')} stopped",
        f"{outcomes.count('completed')} done",
    ]
    shown += [f"{outcomes.count(bad)} {bad}" for bad in ("diverged", "failed") if bad in outcomes]
    return ended + ", ".join(shown)
