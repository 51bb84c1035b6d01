"""A study on a real job server is submitted, watched, stopped and resumed; nothing of it runs here."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuning import journal
from tuning.jobs import main
from tuning.journal import Event

NAME = "shared"


Said = pytest.CaptureFixture[str]


def jobs(capsys: Said, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The dashboard's address of a head with two CPUs, and the home folder of its jobs."""
    folder = tmp_path_factory.mktemp("j")
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    command = ["start", "--head", "--block", f"--port={ports[0]}", f"--dashboard-port={ports[1]}", "--num-cpus=2"]
    command += [
        "--num-gpus=0",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-agent-listen-port={ports[2]}",
        f"--temp-dir={folder / 't'}",
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with open(folder / "ray.log", "w") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command, "--object-store-memory=80000000"],
            env={**os.environ, "HOME": str(folder), "PATH": path}, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    dashboard = f"http://127.0.0.1:{ports[1]}"
    try:
        deadline = time.monotonic() + 90
        while main(["--dashboard", dashboard, "list"]) != 0:
            assert time.monotonic() < deadline, (folder / "ray.log").read_text()
            time.sleep(0.5)
        yield dashboard, folder
    finally:
        head.terminate()
        head.wait(60)


def events(home: Path) -> list[Event]:
    path = home / "ray-image-tuning" / "results" / NAME / "journal.jsonl"
    return journal.read(path)[0] if path.exists() else []


def ended(home: Path) -> int:
    return sum(event["event"] == "end" and event["outcome"] != "interrupted" for event in events(home))


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_study_outlives_the_command_line_and_goes_on_after_a_stop(server: tuple[str, Path], capsys: Said) -> None:
    dashboard, home = server
    asked = ["--model", "resnet20", "--trials", "60", "--epochs", "3", "--max-share", "0.5"]
    asked += [word for field in ("precision=float32", "memory_format=contiguous", "train_images=300", "sampler=random")
              for word in ("--set", field)]  # fmt: skip
    at = (capsys, "--dashboard", dashboard)
    code, out, err = jobs(*at, "submit", "--name", NAME, *asked)
    assert (code, out) == (0, f"{NAME}: submitted; python -m tuning.jobs status {NAME}\n"), err
    code, _, err = jobs(*at, "submit", "--name", NAME, *asked)
    assert code == 2
    assert err.startswith(f"error: there is a study '{NAME}' on this cluster (")

    deadline = time.monotonic() + 150
    while ended(home) < 3:
        assert time.monotonic() < deadline, jobs(*at, "logs", NAME)[1]
        time.sleep(0.5)
    assert jobs(*at, "resume", NAME)[::2] == (
        2, f"error: {NAME} is RUNNING; stop it first: python -m tuning.jobs stop {NAME}\n",
    )  # fmt: skip
    code, out, err = jobs(*at, "stop", NAME)
    assert (code, out) == (0, f"{NAME}: STOPPED; python -m tuning.jobs resume {NAME}\n"), err
    assert events(home)[-1]["event"] == "end", "in order, not in the middle of a line"

    before = ended(home)
    assert jobs(*at, "resume", NAME, "--trials", str(before + 1))[0] == 0
    while " SUCCEEDED," not in (out := jobs(*at, "status", NAME)[1]):
        assert " FAILED" not in out, jobs(*at, "logs", NAME)[1]
        assert time.monotonic() < deadline + 150, out
        time.sleep(0.5)
    assert ended(home) == before + 1
    assert f"{NAME}: trial " in jobs(*at, "logs", NAME)[1]
    assert NAME in (listed := jobs(*at, "list")[1])
    assert "SUCCEEDED" in listed
    assert "0.5" in listed

    running = most = 0
    for event in events(home):
        running += {"start": 1, "end": -1}.get(event["event"], 0)
        most = max(most, running)
    assert most == 1, "half of two CPUs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("submit", "--model", "resnet20", "--address", "auto"), "error: --address is not for a job"),
        (("submit", "--model", "resnet20", "--name", "a b"), "error: name must be letters"),
        (("resume", "x", "--dry-run"), "error: --dry-run is not for a job"),
    ],
)
def test_what_makes_no_sense_for_a_job_is_refused_before_any_cluster_is_asked(
    arguments: tuple[str, ...], message: str, capsys: Said
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("arguments", [("submit",), ("submit", "--modle", "x"), ("stop",), ("logs", "x", "--tail"), ()])
def test_a_mistake_in_the_flags_is_one_line(arguments: tuple[str, ...], capsys: Said) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("place", [0, 1])
def test_nobody_at_the_dashboard_is_exit_code_3(place: int, capsys: Said) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--dashboard", f"http://127.0.0.1:{port}"]
    assert main([*where, "list"] if place == 0 else ["list", *where]) == 3
    assert capsys.readouterr().err.startswith(f"error: the job server at http://127.0.0.1:{port} does not answer")
