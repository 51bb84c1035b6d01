"""How many trials run at once, now and when a cluster has grown: arithmetic on what it has, without a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-9  # 0.1 + 0.2 CPUs are 0.3


@dataclass(frozen=True, kw_only=True)
class Resources:
    """CPUs and GPUs, of a node or of one trial."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU{'s' * (self.cpus != 1)}, {self.gpus:g} GPU{'s' * (self.gpus != 1)}"


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """Nodes of one size that an autoscaler may start."""

    resources: Resources
    most: int  # at a time


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The nodes that are there, the head first, and those that its autoscaler may start; without one, no types."""

    nodes: tuple[Resources, ...]
    types: tuple[NodeType, ...] = ()
    max_workers: int = 0  # of all types together

    @property
    def most_nodes(self) -> int:
        """The head and as many workers as are allowed, or what is there."""
        return max(len(self.nodes), 1 + min(self.max_workers, sum(kind.most for kind in self.types)))

    @property
    def has_gpus(self) -> bool:
        """Whether any node has a GPU, or could have."""
        return any(node.gpus for node in (*self.nodes, *(kind.resources for kind in self.types if kind.most)))

    def __str__(self) -> str:
        """What it could ever offer."""
        if len(self.nodes) == 1 and not self.types:
            return str(self.nodes[0])
        there = Counter(self.nodes[:1] if self.types else self.nodes)
        parts = [f"{count} node{'s' * (count != 1)} with {node}" for node, count in there.items()]
        parts += [f"up to {min(kind.most, self.max_workers)} with {kind.resources}" for kind in self.types if kind.most]
        return "; ".join(parts) + (f"; {self.most_nodes} nodes at most" if self.types else "")


def autoscaling(nodes: tuple[Resources, ...], config: Mapping[str, Any] | None) -> Cluster:
    """The cluster of these nodes under an autoscaler with this configuration, in the form of `ray up`; or without."""
    if config is None:
        return Cluster(nodes=nodes)
    kinds, head, limit = config["available_node_types"], config.get("head_node_type"), config.get("max_workers")
    most = {name: kind.get("max_workers", 0 if name == head else limit or 0) for name, kind in kinds.items()}
    types = tuple(NodeType(resources=_resources(kinds[name]), most=count) for name, count in most.items() if count)
    return Cluster(nodes=nodes, types=types, max_workers=sum(most.values()) if limit is None else limit)


def _resources(kind: Mapping[str, Any]) -> Resources:
    given = kind.get("resources", {})
    return Resources(cpus=float(given.get("CPU", 0)), gpus=float(given.get("GPU", 0)))


def per_trial(cluster: Cluster, cpus: float, gpus: float | None) -> Resources:
    """What one trial asks for; with `gpus` None it gets a GPU if the cluster has any."""
    return Resources(cpus=cpus, gpus=float(cluster.has_gpus) if gpus is None else gpus)


def concurrency(cluster: Cluster, trial: Resources, trials: int, share: float = 1.0) -> int:
    """How many trials fit at once into a share of the cluster at its largest, but one; 0 if not even one ever does.

    Of the largest, not the present: an autoscaler starts nodes only for trials that wait for them.
    """
    now = sum(fitting(node, trial) for node in cluster.nodes)
    workers = cluster.max_workers
    grown = sum(fitting(node, trial) for node in cluster.nodes[:1])
    for each, kind in sorted(
        ((fitting(kind.resources, trial), kind) for kind in cluster.types), key=lambda pair: -pair[0]
    ):
        count = min(kind.most, workers)
        grown, workers = grown + count * each, workers - count
    most = max(now, grown)
    return min(most, max(int(most * share + TOLERANCE), 1), trials)


def fitting(node: Resources, trial: Resources) -> int:
    """How many trials run on one node; none spans two."""
    count = int((node.cpus + TOLERANCE) // trial.cpus)
    if trial.gpus > 1:
        count = min(count, int(node.gpus // trial.gpus))
    elif trial.gpus:
        # a trial's share of a GPU lies on one GPU: 3 shares of 0.3 fit, whatever the number of GPUs
        count = min(count, int(node.gpus) * int((1 + TOLERANCE) // trial.gpus))
    return count


def waiting_line(pending: int, trial: Resources, nodes: int, most: int) -> str:
    """What `pending` trials wait for in a cluster that has `nodes` nodes of at most `most`."""
    want = f"{pending} trial{'s want' if pending != 1 else ' wants'} {trial}{' each' * (pending != 1)}"
    if nodes < most:
        return f"waiting for nodes: {want}, cluster has {nodes} of at most {most} nodes"
    return f"waiting for other work to end: {want}, the cluster's {nodes} node{'s are' if nodes != 1 else ' is'} taken"
