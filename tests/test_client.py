"""A study through a Ray Client shows itself here, hears Ctrl-C, and can be resumed when its client was killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.patience import until
from tests.test_jobs import NAME, ended, events
from tests.test_spot_notice import free_port
from tests.test_tls import node

pytestmark = [pytest.mark.long, pytest.mark.timeout(500)]

ASKED = ("--model", "resnet20", "--trials", "200", "--epochs", "3", "--name", NAME)
QUICK = ("precision=float32", "memory_format=contiguous", "train_images=300", "sampler=random")


def start(folder: Path, port: int, *arguments: str) -> "subprocess.Popen[str]":
    """The command line, on another machine as far as it can tell."""
    command = ["tuning.launch", "--address", f"ray://127.0.0.1:{port}", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", *command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "HOME": str(folder / "laptop")},
    )  # fmt: skip


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def on_head(home: Path) -> list[int]:
    """The processes of the command line that work in the head's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if "tuning.launch" in (process.info["cmdline"] or ()) and process.info["cwd"] == str(home / "ray-image-tuning"):
            found.append(process.pid)
    return found


def test_a_study_through_a_ray_client_is_stopped_killed_and_finished(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("c")
    home, port = folder / "home", free_port()
    home.mkdir()
    head = ["--head", f"--port={free_port()}", f"--ray-client-server-port={port}", "--num-cpus=2"]
    head += ["--include-dashboard=false", f"--temp-dir={folder / 'r'}"]
    asked = [*ASKED, *(word for field in QUICK for word in ("--set", field))]
    with node(*head, log=folder / "head.log", settings={"HOME": str(home)}):
        until(lambda: answers(port), 60)  # its server comes up after the head
        wrong = start(folder, port, "--model", "resnet20", "--set", "lr=abc")
        _, said = wrong.communicate(timeout=120)
        assert (wrong.returncode, said) == (2, "error: lr must be a number above 0 to 100, got 'abc'\n")

        study = start(folder, port, *asked)
        until(lambda: study.poll() is not None or ended(home) >= 3, 120)
        study.send_signal(signal.SIGINT)
        shown, said = study.communicate(timeout=60)
        assert study.returncode == 130, shown + said
        assert "trial 0 (published recipe) completed, its best 0." in shown
        assert f"go on with: python -m tuning.launch --resume {NAME}\n" in said
        assert said.endswith(f"note: from here with --address ray://127.0.0.1:{port}\n")
        assert events(home)[-1]["event"] == "end", "in order, not in the middle of a line"
        assert not on_head(home)

        before = ended(home)
        study = start(folder, port, "--resume", NAME)
        until(lambda: study.poll() is not None or ended(home) > before, 120)
        study.kill()
        study.communicate()
        until(lambda: not on_head(home), 120)  # Ray waits 30 s for a client to come back

        before = ended(home)
        study = start(folder, port, "--resume", NAME, "--trials", str(before + 1))
        shown, said = study.communicate(timeout=180)
        assert study.returncode == 0, shown + said
        assert f"{NAME}: trial " in shown
    assert not (folder / "laptop").exists(), "nothing of it is here"
    ends = [event["trial"] for event in events(home) if event["event"] == "end" and event["outcome"] != "interrupted"]
    assert sorted(ends) == list(range(before + 1)), "each trial ended once"
