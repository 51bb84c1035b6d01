"""A real cluster in other processes, started without our code, is joined, used and left as it was."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.session import PACKAGES, ROOT
from cluster.versions import Versions, difference

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

DRIVER = """
import importlib, json, os, sys
from cluster.resources import Resources
from cluster.session import call_on_worker, session
with session(sys.argv[1]) as cluster:
    os.rename(os.getcwd(), os.getcwd() + "-gone")  # as on another machine, which has no such folder
    where = call_on_worker(
        lambda: importlib.import_module("tuning.objectives").__file__, address=sys.argv[1], trial=Resources(cpus=1)
    )
    print(json.dumps({"where": where, "cluster": str(cluster)}))
"""
LOOK = """
import json, sys, time
import ray
from ray._private.state import actors
ray.init(sys.argv[1], logging_level="ERROR")
deadline = time.monotonic() + 20
while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"] and time.monotonic() < deadline:
    time.sleep(0.5)
print(json.dumps({
    "nodes": len(ray.nodes()), "cpus": ray.available_resources().get("CPU"),
    "actors": [a["State"] for a in actors().values() if a["State"] != "DEAD"],
    "groups": [g["state"] for g in ray.util.placement_group_table().values() if g["state"] != "REMOVED"],
}))
"""
OTHER_RAY = """
import json, sys
from ray._raylet import GcsClient
store = GcsClient(address=sys.argv[1])
told = json.loads(store.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
store.internal_kv_put(b"CLUSTER_METADATA", json.dumps({**told, "ray_version": "1.0"}).encode(), True, b"cluster")
"""


@contextmanager
def node(folder: Path, *flags: str, path: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A node of a Ray cluster that knows nothing of this repository's folder, until the block ends."""
    command = ["ray.scripts.scripts", "start", "--block", "--num-gpus=0", "--object-store-memory=80000000", *flags]
    with open(folder / f"{len(list(folder.iterdir()))}.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **({"PYTHONPATH": str(path)} if path else {})},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A head with two CPUs, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("r")
    flags = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder / 't'}"]
    with node(folder, *flags) as process:
        address = f"127.0.0.1:{port}"
        look(address)
        yield address, process


def run(code: str, address: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def look(address: str) -> dict[str, object]:
    """What the cluster holds, once it answers."""
    port = int(address.rpartition(":")[2])
    for _ in range(120):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.5)
    found: dict[str, object] = json.loads(run(LOOK, address).splitlines()[-1])
    return found


def test_our_code_travels_to_a_joined_cluster_which_is_left_as_found(
    head: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, process = head
    before = look(address)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "here" / package)
    told = json.loads(run(DRIVER, address, tmp_path / "here").splitlines()[-1])
    assert "py_modules_files" in told["where"], "a worker imported what lay on its own machine"
    assert told["cluster"] == "2 CPUs, 0 GPUs"
    assert look(address) == before == {"nodes": 1, "cpus": 2.0, "actors": [], "groups": []}
    assert process.poll() is None


def test_a_node_with_another_torch_is_refused_by_name(
    head: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, _ = head
    installed = tmp_path / "site" / "torch-9.9.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.0+cpu\n")
    with node(tmp_path, f"--address={address}", "--num-cpus=1", path=installed.parent):
        while look(address)["nodes"] == 1:
            pass
        command = ["tuning.launch", "--model", "resnet20", "--name", "x", "--address", address]
        command += ["--results-dir", str(tmp_path / "r"), "--tracking-uri", f"sqlite:///{tmp_path / 'm.db'}"]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=180)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert "error: the cluster does not fit this machine: torch is " in done.stderr
    assert "here but 9.9.0 on node " in done.stderr


def test_a_head_with_another_ray_is_refused_with_both_versions(head: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, _ = head
    run(OTHER_RAY, address)
    done = subprocess.run([sys.executable, "-c", DRIVER, address], capture_output=True, text=True, timeout=120)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ConnectionError: the cluster at {address} does not fit this machine: ")
    assert "Ray: 1.0" in last
    assert "Ray: 2." in last


HERE = Versions(python="3.12.1", ray="2.60.0", torch="2.15.0")


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, None),
        ({"head": HERE, "node 1": HERE}, None),
        (
            {"head": HERE, "b": Versions(python="3.12.1", ray="2.60.0", torch="2.14.0"),
             "a": Versions(python="3.12.1", ray="2.60.0", torch="2.14.0")},
            "torch is 2.15.0 here but 2.14.0 on a, b; install the same version on all of them",
        ),
        (
            {"head": Versions(python="3.11.2", ray="2.59.0", torch="missing")},
            "python is 3.12.1 here but 3.11.2 on head; install the same version on all of them",
        ),
    ],
)  # fmt: skip
def test_the_first_difference_names_both_versions_and_the_nodes(
    others: dict[str, Versions], expected: str | None
) -> None:
    assert difference(HERE, others) == expected
