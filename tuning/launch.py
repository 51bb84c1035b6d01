"""Tune an image classifier: `python -m tuning.launch --model efficientnet_b0` (`--help` lists all flags)."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

import datasets
from cluster.session import CLIENT
from search_spaces.one_factor import OneFactor
from tuning import options, summary
from tuning.changes import Spaces, extend
from tuning.errors import Interrupted, StudyError
from tuning.interrupt import Interrupt
from tuning.levels import OneFactorResult
from tuning.prepare import Prepared, prepare, prepare_one_factor
from tuning.spec import StudySpec
from tuning.storage import STUDY_FILE, Storage
from tuning.view import View

if TYPE_CHECKING:
    from tuning.outcome import StudyResult

MANY_FAILED = 0.25  # of the trials
FILE_WIDTH = 120  # of tables where the output is no terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    args = options.parse(argv)
    try:
        if (args.address or "").startswith(CLIENT):
            from tuning import client  # imports what asks a job server

            return client.run(args.address, sys.argv[1:] if argv is None else argv)
        prepared = _prepared(args)
    except ValueError as error:
        return _refuse(error, 2)
    except ConnectionError as error:
        return _refuse(error, 3)
    except StudyError as error:
        return _refuse(error, error.exit_code)
    except KeyboardInterrupt:  # images may take minutes to be decoded
        return _refuse("interrupted before anything was searched; start it again", 128 + signal.SIGINT)
    if args.dry_run:
        summary.show_plan(Console(), prepared)
        return 0
    try:
        result = _run(prepared)
    except ConnectionError as error:
        return _refuse(error, 3)
    except Interrupted as error:
        return _refuse(f"{error}; {_how_to_go_on(prepared)}", error.exit_code)
    except StudyError as error:
        return _refuse(error, error.exit_code)
    return 4 if result.failed > MANY_FAILED * result.trials else 0


def _prepared(args: argparse.Namespace) -> Prepared:
    if args.resume:
        from tuning import study_file  # imports torch

        started = study_file.read(Storage(datasets.anchored(args.results_dir or "results"), args.resume))
        spec, space, changes = extend(*started, *options.asked(args), args.space)
        return dataclasses.replace(_prepare(spec, space, resume=True), changes=changes)
    return _prepare(*options.request(args))


def _prepare(spec: StudySpec, space: Spaces | OneFactor, *, resume: bool = False) -> Prepared:
    if isinstance(space, OneFactor):
        return prepare_one_factor(spec, space, resume=resume)
    return prepare(spec, space, resume=resume)


def _run(prepared: Prepared) -> StudyResult | OneFactorResult:
    """Runs one study; a signal is caught from before its first file is there."""
    interrupt = Interrupt()
    with interrupt.catch():
        try:
            return _shown(prepared, interrupt)
        except KeyboardInterrupt:
            raise Interrupted(interrupt.signum or signal.SIGINT) from None


def _shown(prepared: Prepared, interrupt: Interrupt) -> StudyResult | OneFactorResult:
    """Runs one study behind its view; all that others print goes to the study's log file."""
    prepared.folder.mkdir(parents=True, exist_ok=True)
    with _into_log(prepared.folder / "log.txt") as screen:
        console = Console(file=screen, width=None if screen.isatty() else FILE_WIDTH)
        view = View(console, prepared.spec)
        for note in prepared.notes():
            console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
        with view.show():
            result = _search(prepared, view, interrupt)
        if isinstance(result, OneFactorResult):
            summary.show_levels(console, prepared, result)
        else:
            summary.show_result(console, prepared, result)
    return result


def _search(prepared: Prepared, view: View, interrupt: Interrupt) -> StudyResult | OneFactorResult:
    """Imports for seconds, with the view already there."""
    if prepared.one_factor:
        from tuning.one_factor import run as run_one_factor

        return run_one_factor(prepared, observers=[view], phase=view.enter, interrupt=interrupt)
    from tuning.study import run

    return run(prepared, observers=[view], phase=view.enter, interrupt=interrupt)


@contextlib.contextmanager
def _into_log(path: Path) -> Iterator[TextIO]:
    """Sends what this process and its children print into a file; gives the real standard output.

    On the level of file descriptors, because Ray's processes and libraries in C write there.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        with os.fdopen(os.dup(saved[0]), "w") as screen:
            yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _how_to_go_on(prepared: Prepared) -> str:
    if not (prepared.folder / STUDY_FILE).exists():
        return "nothing was searched yet, start it again"
    default = options.FIELDS["results_dir"].default
    folder = "" if prepared.spec.results_dir == default else f" --results-dir {shlex.quote(prepared.spec.results_dir)}"
    return f"go on with: python -m tuning.launch --resume {prepared.spec.name}{folder}"


def _refuse(error: Exception | str, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
