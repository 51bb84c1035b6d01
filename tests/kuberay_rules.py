"""What makes the recipe for Kubernetes right: schemas, the rules of KubeRay's operator,names that lead somewhere."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

FOLDER = Path(__file__).parent.parent / "cluster" / "kuberay"
VERSION = "1.33"  # of Kubernetes, the oldest that gets fixes
CUSTOM = ("RayCluster", "RayJob", "Kustomization")
Document = dict[str, Any]
Recipe = dict[str, list[Document]]


def load() -> Recipe:
    return {path.name: list(yaml.safe_load_all(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))}


def of_kind(recipe: Recipe, kind: str) -> list[Document]:
    return [document for documents in recipe.values() for document in documents if document["kind"] == kind]


def groups(cluster: Document) -> list[Document]:
    return [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]


def pods(recipe: Recipe) -> Iterator[tuple[Document, Mapping[str, str]]]:
    """The specification of each pod, and its labels."""
    for kind in ("Deployment", "StatefulSet"):
        for document in of_kind(recipe, kind):
            template = document["spec"]["template"]
            yield template["spec"], template["metadata"]["labels"]
    for cluster in of_kind(recipe, "RayCluster"):
        for group in groups(cluster):  # KubeRay adds the label
            yield group["template"]["spec"], {"ray.io/cluster": cluster["metadata"]["name"]}


def problems(recipe: Recipe) -> list[str]:
    """What the API server, KubeRay's operator or its own parts would find wrong with a recipe."""
    found: list[str] = []
    for documents in recipe.values():
        for document in documents:
            if document["kind"] not in CUSTOM:
                found += schema_problems(document)
    for cluster in of_kind(recipe, "RayCluster"):
        found += cluster_problems(cluster)
    for job in of_kind(recipe, "RayJob"):
        found += job_problems(job, recipe)
    for spec, _ in pods(recipe):
        found += schema_problems({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
        found += pod_problems(spec, recipe)
    return found + link_problems(recipe)


def schema_problems(document: Document) -> list[str]:
    return _schema_problems(json.dumps(document))


@cache  # it reads a schema each time
def _schema_problems(text: str) -> list[str]:
    try:
        kubernetes_validate.validate(json.loads(text), VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{json.loads(text)['kind']}: {error.message}"]
    return []


def cluster_problems(cluster: Document) -> list[str]:
    """Required fields and values as in KubeRay's definition of RayCluster and its operator's own checks."""
    spec, found = cluster["spec"], []
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", cluster["metadata"]["name"]):
        found.append("the name is no DNS label")
    if not spec.get("enableInTreeAutoscaling") or spec["autoscalerOptions"].get("version") != "v2":
        found.append("the autoscaler is off, or the old one")
    if spec.get("authOptions", {}).get("mode") != "token":
        found.append("anybody may submit jobs")
    images = {container["image"] for group in groups(cluster) for container in group["template"]["spec"]["containers"]}
    if len(images) != 1:
        found.append(f"images differ: {sorted(images)}")
    for group in groups(cluster):
        name, params = group.get("groupName", "head"), group.get("rayStartParams")
        if not isinstance(params, dict) or not all(isinstance(value, str) for value in params.values()):
            found.append(f"{name}: rayStartParams must be strings")
        elif "labels" in params:
            found.append(f"{name}: labels belong to the group")
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append(f"{name}: the autoscaler wants restartPolicy Never")
    for group in spec["workerGroupSpecs"]:
        low, now, high = (group.get(key) for key in ("minReplicas", "replicas", "maxReplicas"))
        if not all(isinstance(number, int) for number in (low, now, high)) or not (0 == low <= now <= high):
            found.append(f"{group.get('groupName')}: replicas {now} not in {low}..{high}, or not from 0")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", group.get("groupName", "")):
            found.append("a worker group has no name")
    return found


def job_problems(job: Document, recipe: Recipe) -> list[str]:
    spec, found = job["spec"], []
    clusters = {cluster["metadata"]["name"] for cluster in of_kind(recipe, "RayCluster")}
    if spec.get("clusterSelector", {}).get("ray.io/cluster") not in clusters or "rayClusterSpec" in spec:
        found.append("the job's cluster does not exist")
    if spec.get("submissionMode") != "HTTPMode":
        found.append("the namespace refuses the pod that would submit the job")
    if spec.get("shutdownAfterJobFinishes"):
        found.append("a job may not end a cluster that it did not make")
    return found


def pod_problems(spec: Document, recipe: Recipe) -> list[str]:
    """Against the restricted pod security standard, and names of secrets and volumes that lead nowhere."""
    found, user = [], spec.get("securityContext", {})
    if not user.get("runAsNonRoot") or not user.get("runAsUser") or user["seccompProfile"]["type"] != "RuntimeDefault":
        found.append("a pod may run as root")
    secrets = {secret["metadata"]["name"]: secret["stringData"] for secret in of_kind(recipe, "Secret")}
    claims = {claim["metadata"]["name"] for claim in of_kind(recipe, "PersistentVolumeClaim")}
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume and volume["persistentVolumeClaim"]["claimName"] not in claims:
            found.append(f"volume {volume['name']} claims what is not there")
    templates = {
        template["metadata"]["name"]
        for document in of_kind(recipe, "StatefulSet")
        if document["spec"]["template"]["spec"] is spec
        for template in document["spec"]["volumeClaimTemplates"]
    }
    for container in spec["containers"]:
        name, security = container["name"], container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{name} may gain privileges")
        if not {"cpu", "memory"} <= set(container.get("resources", {}).get("limits", {})):
            found.append(f"{name} has no limits")
        found += [
            f"{name} mounts {mount['name']}, which is no volume"
            for mount in container["volumeMounts"]
            if mount["name"] not in {*volumes, *templates}
        ]
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                if reference["key"] not in secrets.get(reference["name"], {}):
                    found.append(f"{name} wants a secret that secrets.example.yaml lacks: {reference}")
            elif "password" in variable["name"].lower():
                found.append(f"{name} has a password in clear")
    return found


def link_problems(recipe: Recipe) -> list[str]:
    """Selectors that select nothing, ports that nobody listens on, hosts that are no service."""
    found = []
    running = list(pods(recipe))

    def matched(labels: Mapping[str, str]) -> list[Document]:
        return [spec for spec, own in running if labels.items() <= own.items()]

    services = {}
    for service in of_kind(recipe, "Service"):
        name = service["metadata"]["name"]
        behind = matched(service["spec"]["selector"])
        listening = {port["name"] for spec in behind for c in spec["containers"] for port in c["ports"]}
        services[name] = {port["port"] for port in service["spec"]["ports"]}
        if not all(port["targetPort"] in listening for port in service["spec"]["ports"]):
            found.append(f"service {name} leads nowhere")
    for kind in ("Deployment", "StatefulSet"):
        for document in of_kind(recipe, kind):
            if document["spec"]["selector"]["matchLabels"] != document["spec"]["template"]["metadata"]["labels"]:
                found.append(f"{document['metadata']['name']} does not find its own pods")
            if document["spec"].get("serviceName", "postgres") not in services:
                found.append(f"{document['metadata']['name']} names no service")
    for policy in of_kind(recipe, "NetworkPolicy"):
        rules = policy["spec"]
        peers = [peer for rule in rules.get("ingress", []) for peer in rule.get("from", [])]
        selected = [rules["podSelector"], *(peer["podSelector"] for peer in peers if "podSelector" in peer)]
        if not all(matched(selector.get("matchLabels", {})) for selector in selected):
            found.append(f"policy {policy['metadata']['name']} is about no pod")
    text = yaml.safe_dump_all(document for documents in recipe.values() for document in documents)
    for host, port in re.findall(r"(?:@|http://)([a-z][\w.-]*):(\d+)", text):
        if int(port) not in services.get(host, ()):
            found.append(f"{host}:{port} is no service")
    return found
