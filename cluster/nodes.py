"""What a joined cluster says of itself: its nodes, how far its autoscaler goes, its versions, who waits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import requests
import yaml
from ray._private.state import actors
from ray._private.worker import global_worker
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.resources import Cluster, Resources, autoscaling
from cluster.versions import Versions, difference, own

ANSWER_SECONDS = 90.0  # for a first worker process on each node
LIMITS = ("available_node_types", "head_node_type", "max_workers")  # and no more: the rest may hold secrets
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # of the pod, on Kubernetes
HEAD = "node:__internal_head__"  # how Ray marks the head among a node's resources


def present() -> Cluster:
    """The nodes that are there now, the head first."""
    return Cluster(nodes=tuple(_size(node) for node in _alive()))


def survey() -> Cluster:
    """The nodes that are there and those that could be, all of whose versions are those of this process.

    Raises:
        ConnectionError: they are not, or a node does not answer.
    """
    alive = _alive()
    on_head, *_ = alive
    try:
        tasks = {_name(node): _task(_versions, node).remote() for node in alive}
        config = _task(_autoscaler_config, on_head).remote(ray.get_runtime_context().gcs_address)
        answers: list[Versions] = ray.get(list(tasks.values()), timeout=ANSWER_SECONDS)
        limits: dict[str, Any] | None = ray.get(config, timeout=ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise ConnectionError(f"the nodes of the cluster did not answer within {ANSWER_SECONDS:g} s") from error
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"a node of the cluster cannot run our code: {str(error).splitlines()[-1]}") from error
    if differs := difference(own(), dict(zip(tasks, answers, strict=True))):
        raise ConnectionError(f"the cluster does not fit this machine: {differs}")
    return autoscaling(tuple(_size(node) for node in alive), limits)


def pending(trial: Resources) -> int:
    """How many trials of this size wait for a place in the cluster, whosesoever they are."""
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    return sum(
        entry.count
        for demand in status.resource_demands.placement_group_demand
        for entry in demand.bundles_by_count
        if entry.bundle.get("CPU", 0) == trial.cpus and entry.bundle.get("GPU", 0) == trial.gpus
    )


def staying() -> set[str]:
    """The ids of the nodes that are there and have not been told to go."""
    return {node["NodeID"] for node in _alive()} - draining()


def draining() -> set[str]:
    """The ids of the nodes that will be taken away: a spot notice, or the autoscaler's."""
    return {str(node) for node in global_worker.gcs_client.get_draining_nodes()}


def of_actor(actor: str) -> str | None:
    """The id of the node that an actor runs or ran on, if it ever did."""
    node: str | None = actors(actor).get("Address", {}).get("NodeID")
    return node or None


def _alive() -> list[Mapping[str, Any]]:
    """Ray's records of the nodes, the head first."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return sorted(alive, key=lambda node: (HEAD not in node["Resources"], node["NodeID"]))


def _size(node: Mapping[str, Any]) -> Resources:
    return Resources(cpus=node["Resources"].get("CPU", 0.0), gpus=node["Resources"].get("GPU", 0.0))


def _name(node: Mapping[str, Any]) -> str:
    head = "head" if HEAD in node["Resources"] else "node"
    return f"{head} {node['NodeManagerAddress']} ({node['NodeID'][:8]})"


def _task(function: Any, node: Mapping[str, Any]) -> Any:
    """The function as a task on that node, also on one without free CPUs."""
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(function).options(num_cpus=0, scheduling_strategy=here, max_retries=0)


def _versions() -> Versions:
    return own()


def _autoscaler_config(gcs_address: str) -> dict[str, Any] | None:
    """Runs on the head, where the autoscaler reads its configuration from a file that its command line names.

    Ray 2.60 tells nobody else how far a cluster may grow: neither its status nor its key-value store holds the limits.
    On Kubernetes the autoscaler runs beside the head and asks the API server, which the head may do as well.
    """
    import psutil  # comes with Ray

    if name := os.environ.get("RAY_CLUSTER_NAME"):  # set by KubeRay
        return _kuberay_config(name, os.environ.get("RAY_CLUSTER_NAMESPACE") or NAMESPACE.read_text().strip())
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        paths = [word.partition("=")[2] for word in words if word.startswith("--autoscaling-config=")]
        if paths and f"--gcs-address={gcs_address}" in words and any("monitor.py" in word for word in words):
            with open(paths[0]) as file:
                config = yaml.safe_load(file)
            return {key: config[key] for key in LIMITS if key in config}
    return None


def _kuberay_config(name: str, namespace: str) -> dict[str, Any] | None:
    try:
        cluster = KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == requests.codes.forbidden:
            return None  # KubeRay gives a head rights when it has an autoscaler
        raise
    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return None
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    return {key: config[key] for key in LIMITS}
