"""An S3 server on loopback, moto's, that tests fill, change and count the requests of."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from tests.source_cases import Files


@dataclass
class Server:
    """`requests` are those since it was last cleared, such as `GET /bucket/key`."""

    port: int
    files: S3FileSystem
    requests: list[str] = field(default_factory=list)

    def put(self, place: str, content: Files) -> str:
        """Writes objects below `place`, `bucket/path`, and gives its address."""
        self.files.create_dir(place.split("/")[0])
        for name, body in content.items():
            with self.files.open_output_stream(f"{place}/{name}", compression=None) as stream:
                stream.write(body)
        return self.address(place)

    def address(self, place: str) -> str:
        return f"s3://{place}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def fetched(self) -> list[str]:
        """The objects whose content was asked for since `requests` was cleared."""
        return [r.split("/", 2)[2] for r in self.requests if r.startswith("GET ") and "?" not in r]


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Runs the server for as long as the block lasts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    log, requests = logging.getLogger("werkzeug"), _Requests()
    log.addHandler(requests)
    log.setLevel(logging.INFO)
    log.propagate = False
    server.start()
    try:
        _, port = server.get_host_and_port()
        files = S3FileSystem(endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True)
        yield Server(port, files, requests.lines)
    finally:
        server.stop()
        log.removeHandler(requests)


class _Requests(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if match := re.search(r"([A-Z]+ /\S+) HTTP/", record.getMessage()):
            self.lines.append(match[1])
