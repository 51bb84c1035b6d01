"""Whether the nodes of a cluster run the same Python, Ray and PyTorch as the driver."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What code and checkpoints of one machine need to mean the same on another."""

    python: str
    ray: str
    torch: str


@cache
def own() -> Versions:
    """Those of this process; builds for other hardware, such as 2.15.0+cpu, count as the same."""
    return Versions(python=platform.python_version(), ray=_installed("ray"), torch=_installed("torch"))


def difference(driver: Versions, nodes: Mapping[str, Versions]) -> str | None:
    """The first package that a node has in another version than the driver, with the nodes that differ; or None."""
    for package, version in asdict(driver).items():
        found: dict[str, list[str]] = {}
        for node, versions in nodes.items():
            found.setdefault(asdict(versions)[package], []).append(node)
        if others := {other: names for other, names in found.items() if other != version}:
            where = "; ".join(f"{other} on {', '.join(sorted(names))}" for other, names in sorted(others.items()))
            return f"{package} is {version} here but {where}; install the same version on all of them"
    return None


def check(driver: Versions) -> None:
    """For a node that joined a cluster when its study had begun.

    Raises:
        RuntimeError: this process runs other versions than the driver.
    """
    if differs := difference(driver, {f"node {socket.gethostname()}": own()}):
        raise RuntimeError(f"this node joined the study with other versions: {differs}")


def _installed(package: str) -> str:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "missing"
