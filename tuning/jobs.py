"""Studies on a remote cluster, which go on when the laptop is closed: `python -m tuning.jobs --help`."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cluster.session import apply_settings, code_for_workers
from tuning import options
from tuning.spec import NAME

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DASHBOARD = "http://127.0.0.1:8265"
FOLDER = "ray-image-tuning"
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
START_SECONDS = 60  # for a new head to take jobs
STOP_SECONDS = 60  # for a study to end in order; Ray's 3 s would kill most in the middle of it


class Refused(Exception):
    """A request that cannot be done, told in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; gives its exit code."""
    args, rest = _parser().parse_known_args(argv)
    if rest and args.command not in (submit, resume):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    apply_settings()
    try:
        if args.command in (submit, resume):
            _check(args)
        _ask(args)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ConnectionError as error:
        print(f"error: the job server at {args.dashboard} does not answer ({' '.join(str(error).split())}); "
              "reach it with: ssh -L 8265:127.0.0.1:8265 HEAD", file=sys.stderr)  # fmt: skip
        return 3
    return 0


def _ask(args: argparse.Namespace) -> None:
    """Does what the command line says on the job server."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # of no package that it uploads
    try:
        args.command(JobSubmissionClient(args.dashboard), args)
    except (AuthenticationError, RuntimeError) as error:  # whatever else the server says
        raise ConnectionError(str(error)) from error


def submit(client: JobSubmissionClient, args: argparse.Namespace) -> None:
    """Starts a study under a name that no other study of the cluster has."""
    if runs := _studies(client).get(args.name):
        raise Refused(
            f"there is a study {args.name!r} on this cluster ({runs[-1].status.value}); go on with "
            f"python -m tuning.jobs resume {args.name}, or choose another --name"
        )
    _start(client, args, ["--name", args.name], {"folder": FOLDER, "share": "1"})


def resume(client: JobSubmissionClient, args: argparse.Namespace) -> None:
    """Goes on with a study that has stopped, or adds to its budgets."""
    job = _known(client, args.name)
    if job.status.value not in ENDED:
        raise Refused(f"{args.name} is {job.status.value}; stop it first: python -m tuning.jobs stop {args.name}")
    _start(client, args, ["--resume", args.name], job.metadata or {})


def listing(client: JobSubmissionClient, args: argparse.Namespace) -> None:
    """All studies of the cluster, the newest first."""
    table = Table("study", "status", "started", "by", "share")
    for name, runs in reversed(_studies(client).items()):
        job, told = runs[-1], runs[-1].metadata or {}
        table.add_row(name, job.status.value, _when(job), told.get("user", ""), told.get("share", ""))
    Console().print(table)


def status(client: JobSubmissionClient, args: argparse.Namespace) -> None:
    """What became of a study, and the last lines that it printed."""
    job = _known(client, args.name)
    print(f"{args.name}: {job.status.value}, started {_when(job)}, in {(job.metadata or {}).get('folder')} on the head")
    if job.status.value == "FAILED" and job.message:
        print(job.message.strip().splitlines()[0])
    for line in client.get_job_logs(job.submission_id or "").splitlines()[-3:]:
        print(f"  {line}")


def logs(client: JobSubmissionClient, args: argparse.Namespace) -> None:
    """Everything that a study has printed."""
    _known(client, args.name)
    for job in _studies(client)[args.name]:
        print(client.get_job_logs(job.submission_id or ""), end="")


def stop(client: JobSubmissionClient, args: argparse.Namespace) -> None:
    """Ends a study in order, and waits for it."""
    client.stop_job(_known(client, args.name).submission_id or "")
    deadline = time.monotonic() + STOP_SECONDS + 10
    while _known(client, args.name).status.value not in ENDED and time.monotonic() < deadline:
        time.sleep(0.5)
    print(f"{args.name}: {_known(client, args.name).status.value}; python -m tuning.jobs resume {args.name}")


def _start(client: JobSubmissionClient, args: argparse.Namespace, which: list[str], known: Mapping[str, str]) -> None:
    """Submits the command line of a study, with what is `known` of it where no flag says otherwise."""
    command = ["python", "-m", "tuning.launch", "--address", "auto", *which, *args.rest]
    run = int(known.get("run", 0)) + 1
    told = {**known, "study": args.name, "run": str(run), "user": os.environ.get("USER", "")}
    told |= {"folder": args.folder} if args.folder else {}
    share = options.parser().parse_known_args(args.rest)[0].max_share
    told |= {} if share is None else {"share": f"{share:g}"}
    place = shlex.quote(told["folder"])
    job = {
        "submission_id": f"{args.name}~{run}",  # an id of its own, since Ray ends what is left of an earlier one
        "entrypoint": f"cd && mkdir -p {place} && cd {place} && exec {shlex.join(command)}",
        "runtime_env": {**code_for_workers(), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}},
        "metadata": told,
    }
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.submit_job(**job)
            break
        except RuntimeError as error:
            if "already exists" in str(error):
                raise Refused(f"there is a study {args.name!r} on this cluster; choose another --name") from error
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)  # the head has just been started
    print(f"{args.name}: submitted; python -m tuning.jobs status {args.name}")


def _check(args: argparse.Namespace) -> None:
    """That the flags for the study parse, and that it has a name; its data lies on the cluster and is checked there."""
    for flag in ("--address", "--dry-run", "--resume", "--name"):
        if any(word == flag or word.startswith(f"{flag}=") for word in args.rest):
            raise Refused(f"{flag} is not for a job, which joins its own cluster; see python -m tuning.jobs --help")
    which = ["--resume", args.name] if args.command is resume else []
    parsed = options.parse([*args.rest, *which])
    if args.command is submit and not args.name:
        args.name = options.study_name(parsed, parsed.model[0] if parsed.model else "study")
    if not NAME.fullmatch(args.name):
        raise Refused(f"name must be letters, digits, '_', '.', '-', at most 100, got {args.name!r}")


def _studies(client: JobSubmissionClient) -> dict[str, list[JobDetails]]:
    """The runs of each study of the cluster, the newest last."""
    found: dict[str, list[JobDetails]] = {}
    for job in sorted(client.list_jobs(), key=lambda job: job.start_time or 0):
        if name := (job.metadata or {}).get("study"):
            found.setdefault(name, []).append(job)
    return dict(sorted(found.items(), key=lambda item: item[1][-1].start_time or 0))


def _known(client: JobSubmissionClient, name: str) -> JobDetails:
    """The newest run of a study."""
    studies = _studies(client)
    if name not in studies:
        raise Refused(f"there is no study {name!r} on this cluster; there are: {', '.join(studies) or 'none'}")
    return studies[name][-1]


def _when(job: JobDetails) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime((job.start_time or 0) / 1000))


def _parser() -> argparse.ArgumentParser:
    parser = options.Parser(prog="python -m tuning.jobs", description=__doc__, allow_abbrev=False)
    where = f"of the cluster's head, here or through a tunnel (default: {DASHBOARD})"
    parser.add_argument("--dashboard", metavar="URL", default=DASHBOARD, help=where)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=options.Parser)

    def add(name: str, command: Callable[..., None]) -> Any:
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__, allow_abbrev=False)
        sub.set_defaults(command=command)
        sub.add_argument("--dashboard", metavar="URL", default=argparse.SUPPRESS, help=where)  # before or after COMMAND
        return sub

    add("list", listing)
    for name, command in (("submit", submit), ("resume", resume)):
        sub = add(name, command)
        sub.epilog = "All other flags are those of python -m tuning.launch; --max-share 0.5 leaves half to others."
        sub.add_argument("--name" if command is submit else "name", metavar="NAME", help="of the study")
        sub.add_argument("--folder", metavar="DIR", help="on the cluster, from its home folder; all paths are relative "
                         "to it; all nodes must share it, but for a --results-dir and --dataset of an object store "
                         f"(default: {FOLDER})")  # fmt: skip
    for name, command in (("status", status), ("logs", logs), ("stop", stop)):
        add(name, command).add_argument("name", metavar="NAME", help="of the study")
    return parser


if __name__ == "__main__":
    sys.exit(main())
