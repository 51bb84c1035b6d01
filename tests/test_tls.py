"""A study on a cluster where Ray encrypts what it sends and asks everybody for a certificate and a token."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.util import get_node_ip_address

from tests.patience import until
from tests.test_spot_notice import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
README = Path(__file__).parent.parent / "cluster" / "README.md"


def certificates(folder: Path, host: str) -> dict[str, str]:
    """What the README's commands make, as Ray wants to be told of it."""
    (block,) = re.findall(r"^## Tokens and TLS\n.*?^```\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    commands = [line for line in block.replace("<address-of-the-node>", host).splitlines() if "ray start" not in line]
    told = subprocess.run(
        ["bash", "-ec", "\n".join([*commands, "env -0"])], cwd=folder, capture_output=True, text=True, check=True
    )
    found = dict(line.partition("=")[::2] for line in told.stdout.split("\0") if line.startswith("RAY_"))
    assert found["RAY_AUTH_MODE"] == "token"
    assert len(found["RAY_AUTH_TOKEN"]) == 64
    return {name: found[name] for name in found if name.startswith(("RAY_AUTH", "RAY_USE_TLS", "RAY_TLS"))}


@contextmanager
def node(*flags: str, log: Path, settings: Mapping[str, str]) -> Iterator[None]:
    command = ("start", "--block", "--num-gpus=0", "--object-store-memory=80000000", *flags)
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command], stdout=file, stderr=file,
            env={**os.environ, **settings},
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or b"Ray runtime started" in log.read_bytes(), 120)
        yield
    finally:
        process.terminate()
        process.wait(60)


def study(folder: Path, name: str, address: str, settings: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    command = ["tuning.launch", "--model", "resnet20", "--trials", "2", "--epochs", "1", "--name", name]
    command += ["--address", address, "--results-dir", str(folder), "--tracking-uri", f"sqlite:///{folder / 'm.db'}"]
    command += ["--set", "precision=float32", "--set", "memory_format=contiguous", "--set", "train_images=300"]
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=120, env={**os.environ, **settings}
    )


def test_a_study_runs_where_everybody_needs_a_certificate_and_a_token(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, host, port = tmp_path_factory.mktemp("t"), get_node_ip_address(), free_port()
    settings, address = certificates(folder, host), f"{host}:{port}"
    client = free_port()
    head = (
        "--head",
        f"--port={port}",
        f"--ray-client-server-port={client}",
        "--num-cpus=0",
        "--include-dashboard=false",
        f"--temp-dir={folder / 'r'}",
    )
    with (
        node(*head, log=folder / "head.log", settings=settings),
        node(f"--address={address}", "--num-cpus=1", log=folder / "node.log", settings=settings),
    ):
        done = study(folder, "encrypted", address, settings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "trials      2: 2 completed" in done.stdout
        through = study(folder, "through", f"ray://{host}:{client}", settings)
        assert through.returncode == 0, through.stdout + through.stderr
        assert "trials      2: 2 completed" in through.stdout
        plain = study(folder, "plain", address, {name: settings[name] for name in settings if "AUTH" in name})
        assert plain.returncode == 3, plain.stdout + plain.stderr
        assert f"error: the cluster at {address} uses TLS; set RAY_USE_TLS=1, " in plain.stderr
        stranger = study(folder, "stranger", address, {**settings, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
        assert stranger.returncode == 3, stranger.stdout + stranger.stderr
        assert "set RAY_AUTH_MODE=token" in stranger.stderr
