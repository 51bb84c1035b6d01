"""A cloud's notice, as its metadata server gives it, takes a real node out of its cluster; so does SIGTERM."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ray.util import get_node_ip_address

from cluster.spot_notice import aws_notice, google_notice
from tests.patience import until

HOLD = """
import sys, time
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init(sys.argv[1], logging_level="ERROR")
from cluster.session import machine_is_going
(worker,) = (node["NodeID"] for node in ray.nodes() if "node:__internal_head__" not in node["Resources"])
class Trial:
    def runs_on(self):
        return worker
    def run(self):
        while not machine_is_going():
            time.sleep(0.1)
        return "left"
trial = ray.remote(Trial).options(num_cpus=1, scheduling_strategy=On(worker, soft=False)).remote()
print(ray.get(trial.runs_on.remote()), flush=True)
print(ray.get(trial.run.remote()), flush=True)
"""


class Metadata(BaseHTTPRequestHandler):
    """What both clouds tell a machine of itself, by their own rules of asking."""

    ends: str | None = None  # in Amazon's form
    asked: list[str] = []  # noqa: RUF012

    def do_PUT(self) -> None:
        well = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"].isdigit()
        self.answer(*((200, "secret") if well else (400, "")))

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/computeMetadata/v1/instance/preempted":
            well = self.headers["Metadata-Flavor"] == "Google"
            self.answer(*((200, "TRUE" if self.ends else "FALSE") if well else (403, "")))
        elif self.headers["X-aws-ec2-metadata-token"] != "secret":
            self.answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and self.ends:
            self.answer(200, json.dumps({"action": "terminate", "time": self.ends}))
        else:
            self.answer(404, "")

    def answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    """Its answers can be set; the address is where Amazon's and Google's own libraries look for it, too."""
    told = type("Told", (Metadata,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), told) as server:
        address = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{address}")
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def test_a_notice_says_when_the_machine_ends(metadata: type[Metadata]) -> None:
    assert aws_notice(1000.0) is None
    assert google_notice(1000.0) is None
    metadata.ends = "2026-11-21T08:22:00Z"
    assert aws_notice(1000.0) == datetime(2026, 11, 21, 8, 22, tzinfo=UTC).timestamp()
    assert google_notice(1000.0) == 1025.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as file:
        process = subprocess.Popen([sys.executable, *command], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def two_nodes(folder: Path) -> Iterator[str]:
    """A head without CPUs and a node with one; gives the address."""
    host, port = get_node_ip_address(), free_port()  # Ray puts it in the place of loopback
    start = ("-m", "ray.scripts.scripts", "start", "--block", "--num-gpus=0", "--object-store-memory=80000000")
    head = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}/t")
    with running(*start, *head, log=folder / "head.log"):
        for _ in range(120):
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    break
            time.sleep(0.5)
        with running(*start, f"--address={host}:{port}", "--num-cpus=1", log=folder / "node.log"):
            yield f"{host}:{port}"


@pytest.mark.timeout(200)
@pytest.mark.long
@pytest.mark.parametrize("source", ["aws", "gcp", "SIGTERM", "now"])
def test_a_node_is_drained_and_its_work_leaves(
    source: str, metadata: type[Metadata], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("s")
    cloud = "aws" if source == "SIGTERM" else source
    why = "SIGTERM" if source == "SIGTERM" else "the machine will be taken away"
    with two_nodes(folder) as address:
        until(lambda: b"Ray runtime started" in (folder / "node.log").read_bytes(), 60)
        with running("-c", HOLD, address, log=folder / "work.log"):
            node = until(lambda: (folder / "work.log").read_text(), 60).strip()
            with running(
                "-m", "cluster.spot_notice", cloud, "--cluster", address, log=folder / "notice.log"
            ) as watcher:
                if source != "now":
                    until(lambda: len(metadata.asked) > 1, 60)
                    assert watcher.poll() is None
                if source == "SIGTERM":
                    watcher.terminate()
                else:
                    metadata.ends = datetime.fromtimestamp(int(time.time()) + 60, UTC).isoformat()
                until(lambda: "left" in (folder / "work.log").read_text(), 60)
                assert watcher.wait(60) == 0, (folder / "notice.log").read_text()
        assert f"{why}: node {node[:8]} is drained, " in (folder / "notice.log").read_text()
