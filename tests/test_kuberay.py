"""The recipe for Kubernetes is right by the rules of `kuberay_rules`, each of which finds what it is there for."""

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from cluster import spot_notice
from cluster.nodes import LIMITS
from cluster.resources import Cluster, NodeType, Resources, autoscaling, concurrency
from tests.kuberay_rules import Recipe, load, of_kind, pods, problems
from tuning import options


def test_nothing_is_wrong_with_it() -> None:
    assert problems(load()) == []


GONE = object()
WORKER = "raycluster 0 spec workerGroupSpecs 0"
HEAD = "raycluster 0 spec headGroupSpec"
MLFLOW = "mlflow 1 spec template spec containers 0"
POSTGRES = "postgres 1 spec template spec containers 0"
BREAKAGES: dict[str, tuple[str, Any, str]] = {  # where, what is put there, what is found
    "a field that does not exist": (f"{MLFLOW} limit", 1, "unexpected"),
    "a worker's field that does not exist": (f"{WORKER} template spec limit", 1, "unexpected"),
    "a number among rayStartParams": (f"{HEAD} rayStartParams num-cpus", 0, "strings"),
    "no rayStartParams": (f"{WORKER} rayStartParams", GONE, "strings"),
    "labels in rayStartParams": (f"{HEAD} rayStartParams labels", "a=b", "belong to the group"),
    "replicas above the limit": (f"{WORKER} replicas", 9, "not in 0..8"),
    "workers that never go": (f"{WORKER} minReplicas", 1, "not in 1..8"),
    "no group name": (f"{WORKER} groupName", GONE, "no name"),
    "two images": (f"{WORKER} template spec containers 0 image", "x:1", "images differ"),
    "no autoscaler": ("raycluster 0 spec enableInTreeAutoscaling", False, "autoscaler is off"),
    "no token": ("raycluster 0 spec authOptions", GONE, "anybody"),
    "pods that restart": (f"{HEAD} template spec restartPolicy", "Always", "Never"),
    "a bad name": ("raycluster 0 metadata name", "Tuning_1", "DNS label"),
    "another cluster's job": ("rayjob 0 spec clusterSelector ray.io/cluster", "x", "job's cluster"),
    "a pod that submits": ("rayjob 0 spec submissionMode", GONE, "refuses the pod"),
    "a job that ends the cluster": ("rayjob 0 spec shutdownAfterJobFinishes", True, "may not end"),
    "a root user": (f"{HEAD} template spec securityContext runAsNonRoot", GONE, "as root"),
    "privileges": (f"{POSTGRES} securityContext capabilities", GONE, "gain privileges"),
    "no memory limit": (f"{POSTGRES} resources limits memory", GONE, "no limits"),
    "another secret": ("secrets.example 0 metadata name", "x", "lacks"),
    "another key": ("secrets.example 0 stringData", {"x": "y"}, "lacks"),
    "a password in clear": (f"{MLFLOW} env 0", {"name": "PGPASSWORD", "value": "x"}, "in clear"),
    "another claim": ("storage 0 metadata name", "x", "claims what is not there"),
    "a mount of nothing": (f"{POSTGRES} volumeMounts 0 name", "x", "no volume"),
    "another service": ("postgres 0 metadata name", "x", "postgres:5432 is no service"),
    "a set without its service": ("postgres 1 spec serviceName", "x", "names no service"),
    "another port": ("mlflow 0 spec ports 0 port", 80, "mlflow:5000 is no service"),
    "a service of nobody": ("mlflow 0 spec selector", {"app": "x"}, "leads nowhere"),
    "labels that changed": ("mlflow 1 spec selector matchLabels", {"app": "x"}, "its own pods"),
    "a policy about nobody": ("network-policy 3 spec podSelector matchLabels", {"app": "x"}, "no pod"),
}


def put(recipe: Recipe, where: str, value: Any) -> None:
    file, *path = where.split()
    place: Any = recipe[f"{file}.yaml"]
    *inner, last = (int(key) if key.isdigit() else key for key in path)
    for key in inner:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_breaks_it_is_found(name: str) -> None:
    recipe = load()
    where, value, message = BREAKAGES[name]
    put(recipe, where, value)
    assert any(message in problem for problem in problems(recipe)), problems(recipe)


def test_ray_reads_its_autoscaling_from_it() -> None:
    cluster = load()["raycluster.yaml"][0]
    cluster["metadata"]["namespace"] = "tuning"
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    head, gpu = (config["available_node_types"][name] for name in ("headgroup", "gpu"))
    assert (head["resources"]["CPU"], head["max_workers"]) == (0, 0)
    assert (gpu["resources"]["CPU"], gpu["resources"]["GPU"], gpu["min_workers"], gpu["max_workers"]) == (4, 1, 0, 8)
    assert config["idle_timeout_minutes"] == 5
    head = Resources(cpus=0)
    known = autoscaling((head,), config)
    assert known == Cluster(
        nodes=(head,), types=(NodeType(resources=Resources(cpus=4, gpus=1), most=8),), max_workers=8
    )
    assert concurrency(known, Resources(cpus=4, gpus=0.5), trials=40) == 8


class Api(BaseHTTPRequestHandler):
    """The API server of Kubernetes, as far as a head that reads its RayCluster knows it."""

    def do_GET(self) -> None:
        well = self.path == "/apis/ray.io/v1/namespaces/tuning/rayclusters/tuning"
        cluster = load()["raycluster.yaml"][0]
        cluster["metadata"]["namespace"] = "tuning"
        self.send_response(200 if well else 403)
        self.end_headers()
        self.wfile.write(json.dumps(cluster if well else {}).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def test_the_head_asks_kubernetes_how_far_its_cluster_may_grow(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 1 -subj /CN=api"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make.split(), *extra], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        pod = {
            "RAY_CLUSTER_NAMESPACE": "tuning", "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT_HTTPS": str(server.server_port), "RAY_KUBERAY_CA_CERT_PATH": str(certificate),
            "RAY_KUBERAY_CLIENT_CERT_PATH": str(certificate), "RAY_KUBERAY_CLIENT_KEY_PATH": str(key),
        }  # fmt: skip
        allowed, forbidden = (limits({**pod, "RAY_CLUSTER_NAME": name}) for name in ("tuning", "another"))
        server.shutdown()
        thread.join()
    assert allowed is not None
    assert set(allowed) == set(LIMITS)
    assert autoscaling((Resources(cpus=0),), allowed).most_nodes == 9
    assert forbidden is None


def limits(pod: dict[str, str]) -> dict[str, Any] | None:
    """What a process in such a pod finds out."""
    code = "import json; from cluster.nodes import _autoscaler_config; print(json.dumps(_autoscaler_config('')))"
    head = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **pod}, capture_output=True, text=True, timeout=100
    )
    assert head.returncode == 0, head.stderr
    found: dict[str, Any] | None = json.loads(head.stdout.splitlines()[-1])
    return found


def test_a_worker_leaves_within_its_grace_period() -> None:
    (group,) = load()["raycluster.yaml"][0]["spec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    python, flag, module, *words = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (python, flag, module) == ("python", "-m", "cluster.spot_notice")
    assert spot_notice.arguments(words).source == "now"
    assert group["template"]["spec"]["terminationGracePeriodSeconds"] >= spot_notice.NOTICE_SECONDS + 30


def test_its_study_is_one_that_we_can_run_there() -> None:
    spec = load()["rayjob.yaml"][0]["spec"]
    python, flag, module, *arguments = shlex.split(spec["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "tuning.launch")
    args = options.parse(arguments)
    study, _ = options.request(args)
    worker = load()["raycluster.yaml"][0]["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    limits = worker["resources"]["limits"]
    assert study.cpus_per_trial <= int(limits["cpu"])
    assert isinstance(study.gpus_per_trial, int | float)
    assert 0 < study.gpus_per_trial <= limits["nvidia.com/gpu"]
    shared = {mount["mountPath"] for mount in worker["volumeMounts"]}
    assert {Path(study.results_dir).parts[:2], Path(study.data_dir).parts[:2]} == {("/", "shared")}
    assert "/shared" in shared


def test_only_mlflow_reaches_the_database_and_only_ray_reaches_mlflow() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind(load(), "NetworkPolicy")}
    assert policies["default"]["podSelector"] == {}
    assert "Ingress" in policies["default"]["policyTypes"]
    assert "ingress" not in policies["default"]  # none
    for name, client, port in (("postgres", {"app": "mlflow"}, 5432), ("mlflow", {"ray.io/cluster": "tuning"}, 5000)):
        (rule,) = policies[name]["ingress"]
        assert [peer["podSelector"]["matchLabels"] for peer in rule["from"]] == [client]
        assert [p["port"] for p in rule["ports"]] == [port]


def test_kustomize_takes_everything_but_the_study_and_the_secret() -> None:
    recipe = load()
    (kustomization,) = recipe["kustomization.yaml"]
    apart = {"kustomization.yaml", "rayjob.yaml", "secrets.example.yaml"}
    assert set(kustomization["resources"]) == set(recipe) - apart
    assert kustomization["namespace"] == recipe["namespace.yaml"][0]["metadata"]["name"]
    assert kustomization["namespace"] == recipe["rayjob.yaml"][0]["metadata"]["namespace"]
    ours = {container["image"] for spec, _ in pods(recipe) for container in spec["containers"]} - {
        "postgres:17.6-bookworm"
    }
    assert [image["name"] for image in kustomization["images"]] == sorted(ours)


def test_mlflow_answers_to_the_name_that_the_study_calls() -> None:
    recipe = load()
    (hosts,) = (
        a
        for a in recipe["mlflow.yaml"][1]["spec"]["template"]["spec"]["containers"][0]["args"]
        if a.startswith("--allowed-hosts=")
    )
    called = re.findall(r"--tracking-uri http://(\S+)", recipe["rayjob.yaml"][0]["spec"]["entrypoint"])
    assert called == ["mlflow:5000"]
    assert called[0] in hosts.partition("=")[2].split(",")
