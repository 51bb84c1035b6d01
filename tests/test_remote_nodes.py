"""A study whose machines share no folder but the results: each fetches the data from the bucket once."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.object_store_server import served
from tests.source_cases import pets
from tests.test_session import look, node

ROOT = Path(__file__).parent.parent
IMAGES = 60  # of each class


def copies(machine: Path) -> list[Path]:
    return [*machine.glob("ray-image-tuning/data/photos-*/*/photos/*/*.png")]


@pytest.mark.long
def test_every_node_fetches_the_data_once(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path_factory.mktemp("n")  # short, for Ray's sockets
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    own = [f"--port={address.split(':')[1]}", "--head", "--include-dashboard=false", f"--temp-dir={tmp_path / 't'}"]
    machines = {name: tmp_path / name for name in ("driver", "head", "worker")}
    with served(monkeypatch) as server, contextlib.ExitStack() as nodes:
        dataset = server.put("cluster/photos", pets(IMAGES))
        for name, flags in {"head": own, "worker": [f"--address={address}"]}.items():
            monkeypatch.setenv("XDG_CACHE_HOME", str(machines[name]))
            machines[name].mkdir()
            nodes.enter_context(node(machines[name], *flags, "--num-cpus=1"))
            look(address)
        server.requests.clear()
        environment = {**os.environ, "XDG_CACHE_HOME": str(machines["driver"])}
        arguments = ["--model", "resnet20", "--dataset", dataset, "--trials", "4", "--epochs", "2", "--name", "x"]
        arguments += ["--address", address, "--results-dir", str(tmp_path / "results"), "--set", "image_size=16"]
        arguments += ["--set", "batch_size=8", "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        study = subprocess.Popen([sys.executable, "-m", "tuning.launch", *arguments], cwd=ROOT, env=environment)
        try:
            while not (tmp_path / "results" / "x").exists():
                assert study.poll() is None
                time.sleep(0.05)
            # all are on this machine: a worker that found the driver's files would fetch none
            kept = machines["driver"] / "ray-image-tuning"
            kept.rename(tmp_path / "hidden")
            while any(len(copies(machines[name])) < 2 * IMAGES for name in ("head", "worker")):
                assert study.poll() is None
                time.sleep(0.05)
            (tmp_path / "hidden").rename(kept)
            assert study.wait(300) == 0
        finally:
            study.kill()
            study.wait()
        fetched = server.fetched()
    for folder in machines.values():
        assert len(copies(folder)) == 2 * IMAGES, folder
    assert len(fetched) == len(machines) * 2 * IMAGES
