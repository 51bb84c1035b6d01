"""The recipes for clusters on AWS and Google Cloud load, and their scripts do what they say, as often as one likes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import googleapiclient
import pytest
import yaml
from ray.autoscaler._private.gcp.config import get_node_type
from ray.autoscaler._private.gcp.node import GCPNodeType
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster import spot_notice

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "cluster"
BIN = Path(sys.executable).parent
CLOUDS = ("aws", "gcp")
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *CLUSTER.glob("setup/*.sh")])
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
SECRETS = {
    "an AWS account or another long number": r"(?<![\w.-])\d{12}(?![\w.-])",
    "an AWS key": r"AKIA[0-9A-Z]{16}",
    "a private key": "BEGIN [A-Z ]*PRIVATE KEY",
    "an address of our own": r"(?!203\.0\.113\.|127\.0\.0\.|10\.10\.|0\.0\.0\.0)\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
}
FAKE_RAY = """
[ "$*" = "get-auth-token --generate" ] && mkdir ~/.ray && touch ~/.ray/auth_token && echo secret
"""
FAKE_AWS = """
case "$*" in
    "configure get region") echo us-east-1 ;;
    "ssm get-parameter"*) echo ami-12345678 ;;
    *"--stack-name ray-image-tuning "*SecurityGroup*) echo sg-1 ;;
    *"--stack-name ray-image-tuning "*Shared*) echo fs-1.efs.us-east-1.amazonaws.com:/ ;;
    *"--stack-name ray-image-tuning "*Subnet*) echo subnet-1 ;;
    *"--stack-name ray-image-tuning "*WorkerType*) echo g5.xlarge ;;
esac
"""
FAKE_GCLOUD = """
case "$*" in
    *"images list"*) echo https://compute/ubuntu-2404 ;;
    *--format=value*) echo 10.10.0.9 ;;
    *" describe "*) grep -qF -- "$(sed 's/ describe / create /' <<< "$*")" "$LOG" ;;
esac
"""
WATCH = "bash ~/project/setup/worker.sh {}"
MAKE_VENV = 'mkdir -p ~/venv/bin && cp "$(dirname "$0")/pip" ~/venv/bin/pip && cp "$0" ~/venv/bin/python'
GCP_ARGUMENTS = ("my-project", "us-central1-a", "203.0.113.7/32")


def template(cloud: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((CLUSTER / f"{cloud}.yaml").read_text())
    return config


class Machine:
    """A home, and programs that write down how they were called."""

    def __init__(self, home: Path, programs: dict[str, str]) -> None:
        self.home, self.log = home, home / "log"
        (home / "bin").mkdir()
        for name, text in programs.items():
            (home / "bin" / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "$LOG"\n{text}\n')
            (home / "bin" / name).chmod(0o755)

    def run(self, script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        own = {"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", "HOME": str(self.home), "LOG": str(self.log)}
        command = ["bash", str(script), *arguments]
        return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=60)

    def called(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def laptop(tmp_path: Path) -> Machine:
    return Machine(tmp_path, {"aws": FAKE_AWS, "gcloud": FAKE_GCLOUD, "ray": FAKE_RAY})


@pytest.fixture
def filled(laptop: Machine) -> dict[str, dict[str, Any]]:
    """Both recipes with all that their scripts put in."""
    aws, gcp = laptop.run(CLUSTER / "aws.sh"), laptop.run(CLUSTER / "gcp.sh", *GCP_ARGUMENTS)
    assert (aws.returncode, aws.stderr, gcp.returncode, gcp.stderr) == (0, "", 0, "")
    for text in (aws.stdout, gcp.stdout):
        assert re.findall(r"^[^#\n]*<[\w-]+>", text, re.MULTILINE) == []
    assert laptop.called().count("ray get-auth-token --generate") == 1
    return {"aws": yaml.safe_load(aws.stdout), "gcp": yaml.safe_load(gcp.stdout)}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_takes_it(cloud: str, filled: dict[str, dict[str, Any]]) -> None:
    config = prepare_config(filled[cloud])
    validate_config(config)
    head, worker = config["available_node_types"]["head"], config["available_node_types"]["worker"]
    assert config["head_node_type"] == "head"
    assert (head["resources"], head["max_workers"]) == ({"CPU": 0}, 0)
    assert (worker["min_workers"], worker["max_workers"], config["max_workers"]) == (0, 8, 8)
    assert config["idle_timeout_minutes"] <= 10


@pytest.mark.parametrize("cloud", CLOUDS)
def test_head_and_workers_are_set_up_alike(cloud: str) -> None:
    config = template(cloud)
    assert len(config["setup_commands"]) == 1  # on all
    assert config["head_setup_commands"] == ["bash ~/project/setup/head.sh"]
    assert not config.get("worker_setup_commands")
    (start,) = (command for command in config["head_start_ray_commands"] if "ray start" in command)
    assert {"--num-cpus=0", "--num-gpus=0", "--dashboard-host=127.0.0.1"} <= set(start.split())
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    (join,) = (command for command in config["worker_start_ray_commands"] if "ray start" in command)
    assert "RAY_AUTH_MODE=token" in start.split()
    assert "RAY_AUTH_MODE=token" in join.split()
    # a watcher that is replaced leaves with the node that it sees: none at that time
    places = [config["worker_start_ray_commands"].index(c) for c in ("~/venv/bin/ray stop", WATCH.format(cloud), join)]
    assert places == [0, 1, 2]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_it_copies_is_there(cloud: str) -> None:
    mounts = template(cloud)["file_mounts"]
    assert mounts.pop("~/project/dist") == "dist"  # made by pip wheel
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"  # made by the scripts
    assert mounts == {"~/project/setup": "cluster/setup", "~/project/constraints.txt": "constraints.txt"}
    assert all((ROOT / local).exists() for local in mounts.values())
    for command in [c for key in COMMANDS for c in template(cloud)[key]]:
        for script in re.findall(r"~/project/setup/(\S+)", command):
            assert (CLUSTER / "setup" / script) in SCRIPTS


@pytest.mark.parametrize("cloud", CLOUDS)
def test_its_commands_fail_when_a_part_fails(cloud: str, tmp_path: Path) -> None:
    """Ray looks at the last exit code of a command alone."""
    commands = [command for key in COMMANDS for command in template(cloud)[key]]
    for command in commands:
        assert ";" not in command
    (tmp_path / "all.sh").write_text("#!/bin/bash\n" + "\n".join(re.sub(r"<[\w-]+>", "x", c) for c in commands) + "\n")
    # SC2088: the tilde of --autoscaling-config is for Ray
    check = subprocess.run(
        [BIN / "shellcheck", "--exclude=SC2088", tmp_path / "all.sh"], capture_output=True, text=True
    )
    assert (check.returncode, check.stdout) == (0, "")


def test_the_scripts_are_sound() -> None:
    assert len(SCRIPTS) == 5
    check = subprocess.run([BIN / "shellcheck", *SCRIPTS], capture_output=True, text=True)
    assert (check.returncode, check.stdout) == (0, "")
    for script in SCRIPTS:
        assert "\nset -euo pipefail\n" in script.read_text()


def test_scripts_say_what_is_missing(laptop: Machine) -> None:
    unknown = laptop.run(CLUSTER / "aws.sh", "another")
    assert unknown.returncode != 0
    assert unknown.stderr == "error: stack another has no output SecurityGroup; deploy cluster/aws-base.yaml first\n"
    assert unknown.stdout == ""
    assert laptop.run(CLUSTER / "gcp.sh", "my-project").returncode == 2


def test_gcp_makes_each_thing_once(laptop: Machine) -> None:
    made = []
    for _ in range(2):
        assert laptop.run(CLUSTER / "gcp.sh", *GCP_ARGUMENTS).returncode == 0
        made.append([call for call in laptop.called() if " create " in call])
    assert made[0] == made[1]
    kinds = [re.sub(r".*--quiet (.*) create .*", r"\1", call) for call in made[0]]
    rules = ["compute firewall-rules"] * 2
    assert kinds == ["compute networks", "compute networks subnets", *rules, "filestore instances"]
    (ssh,) = (call for call in made[0] if "ray-image-tuning-ssh" in call)
    assert "--source-ranges=203.0.113.7/32" in ssh


def test_a_node_is_prepared_as_often_as_one_likes(tmp_path: Path) -> None:
    node = Machine(tmp_path, {"sudo": "", "dpkg": "", "mountpoint": "", "python3": MAKE_VENV, "pip": ""})
    project = tmp_path / "project"
    (project / "setup").mkdir(parents=True)
    script = project / "setup" / "node.sh"
    script.write_text((CLUSTER / "setup" / "node.sh").read_text())
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch(mode=0o644)
    without = node.run(script, "host:/", "4.1", "aws")
    assert without.returncode == 1
    assert without.stderr.endswith("dist must hold one wheel of the project, has: none\n")
    (project / "dist").mkdir()
    wheel = project / "dist" / "ray_image_tuning-0.1.0-py3-none-any.whl"
    wheel.touch()
    runs = []
    for _ in range(2):
        node.log.unlink()
        result = node.run(script, "host:/", "4.1", "aws")
        assert (result.returncode, result.stderr) == (0, "")
        runs.append(node.called())
    assert f"pip install --quiet {wheel}[cluster,aws] --constraint {project}/constraints.txt" in runs[0]
    assert runs[0] == runs[1]
    assert not any("mount -t" in call or call.startswith("python3") for call in runs[0])  # both are there already
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_worker_runs_the_watcher_as_it_wants_to_be_called(cloud: str, tmp_path: Path) -> None:
    worker = Machine(tmp_path, {"sudo": '[ "$1" = tee ] && cat > "$HOME/$(basename "$2")" || true'})
    for _ in range(2):
        result = worker.run(CLUSTER / "setup" / "worker.sh", cloud)
        assert (result.returncode, result.stderr) == (0, "")
        assert worker.called()[-1] == "sudo systemctl restart spot-notice"
    unit = (tmp_path / "spot-notice.service").read_text()
    (command,) = re.findall(r"^ExecStart=.* -m cluster\.spot_notice (.*)$", unit, re.MULTILINE)
    assert spot_notice.arguments(command.split()).source == cloud
    assert "RAY_AUTH_MODE=token" in unit
    assert float((tmp_path / "spot-notice.conf").read_text().partition("Sec=")[2]) == spot_notice.NOTICE_SECONDS


@pytest.mark.parametrize("path", sorted(p for p in CLUSTER.rglob("*") if p.suffix in (".yaml", ".sh", ".md")))
@pytest.mark.parametrize("what", SECRETS)
def test_nothing_of_anybody_is_in_it(path: Path, what: str) -> None:
    assert re.findall(SECRETS[what], path.read_text()) == []


def test_google_cloud_knows_every_field(filled: dict[str, dict[str, Any]]) -> None:
    """By Google's own description of its interface, which its client library brings along."""
    documents = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    schemas = json.loads((documents / "compute.v1.json").read_text())["schemas"]
    for node_type in filled["gcp"]["available_node_types"].values():
        assert get_node_type(node_type["node_config"]) == GCPNodeType.COMPUTE
        assert list(mismatches(node_type["node_config"], {"$ref": "Instance"}, schemas, "")) == []
    worker = filled["gcp"]["available_node_types"]["worker"]["node_config"]
    assert worker["scheduling"]["provisioningModel"] == "SPOT"
    assert "serviceAccounts" not in worker
    assert list(mismatches({**worker, "scheduling": [{"preemptible": True}]}, {"$ref": "Instance"}, schemas, ""))
    assert list(mismatches({**worker, "disk": []}, {"$ref": "Instance"}, schemas, ""))


def mismatches(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> Iterator[str]:
    """Where a value is not as a schema of Google's discovery documents says."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    python = {"object": dict, "array": list, "boolean": bool, "integer": int, "string": str}[schema["type"]]
    if schema.get("format") in ("int64", "uint64"):
        python = int  # JSON has no such numbers, so they are called strings
    if not isinstance(value, python) or value not in schema.get("enum", [value]):
        yield f"{where}: {value!r}"
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in schema["properties"]:
                yield from mismatches(inner, schema["properties"][name], schemas, f"{where}.{name}")
            else:
                yield f"{where}.{name} does not exist"
    elif isinstance(value, list):
        for inner in value:
            yield from mismatches(inner, schema["items"], schemas, f"{where}[]")
