"""Where MLflow's records go: checking the address before a study starts."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

PROBE_SECONDS = 5.0
SQLITE = "sqlite:///"


def check_tracking(uri: str) -> None:
    """Raises if MLflow cannot use the address or nobody answers there, which MLflow itself would notice after minutes.

    Raises:
        ValueError: it is no address of an MLflow store.
        ConnectionError: it is one, but no server listens.
    """
    path = database_path(uri)
    if path:
        if not path.parent.is_dir() or path.is_dir():
            raise ValueError(
                f"tracking_uri {uri!r} names no file in an existing folder; create {path.parent} or change it"
            )
        if path.exists() and path.stat().st_size and not _is_sqlite(path):
            raise ValueError(f"tracking_uri {uri!r} names a file that is no SQLite database; choose another")
        return
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https", "postgresql", "mysql") or not parts.hostname:
        raise ValueError(f"tracking_uri must be {SQLITE}FILE.db or http(s)://HOST:PORT, got {uri!r}")
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
        except OSError as error:
            raise ConnectionError(
                f"no MLflow server answers at {parts.hostname}:{port} ({error}); start one or leave out --tracking-uri"
            ) from error


def absolute_uri(uri: str) -> str:
    """A SQLite address with its path made absolute, so that it means the same in every folder; others unchanged."""
    path = database_path(uri)
    return f"{SQLITE}{path}" if path else uri


def database_path(uri: str) -> Path | None:
    """The absolute path of the file of a SQLite address."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def _is_sqlite(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"
