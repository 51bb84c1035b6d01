"""The recipe for AWS works on a simulated AWS, with no more rights than it uses."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parent.parent / "cluster"
BIN = Path(sys.executable).parent


def test_cloudformation_takes_the_base() -> None:
    check = subprocess.run([BIN / "cfn-lint", CLUSTER / "aws-base.yaml"], capture_output=True, text=True)
    assert (check.returncode, check.stdout) == (0, "")


@pytest.fixture
def simulated_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """AWS as moto plays it in this process; Ray's key pair goes to a home of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("HOME", str(tmp_path))
    with mock_aws():
        yield


def deploy() -> dict[str, str]:
    """Deploys the base, gives its outputs."""
    subnet = boto3.client("ec2").describe_subnets()["Subnets"][0]
    values = {"Vpc": subnet["VpcId"], "Subnet": subnet["SubnetId"], "SshFrom": "203.0.113.7/32"}
    boto3.client("cloudformation").create_stack(
        StackName="ray-image-tuning",
        TemplateBody=(CLUSTER / "aws-base.yaml").read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
    )
    (stack,) = boto3.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def ray_up(base: dict[str, str]) -> dict[str, Any]:
    """What `ray up` makes of the recipe before it starts a machine."""
    image = boto3.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    text = (CLUSTER / "aws.yaml").read_text()
    values = {"region": "us-east-1", "image": image, "subnet": base["Subnet"], "shared": base["Shared"]}
    for name, value in {**values, "security-group": base["SecurityGroup"], "worker-type": base["WorkerType"]}.items():
        text = text.replace(f"<{name}>", value)
    config = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(yaml.safe_load(text)))
    validate_config(config)
    ready: dict[str, Any] = bootstrap_aws(config)
    return ready


def allowed() -> set[str]:
    """What the head's role allows."""
    policy = boto3.client("iam").get_role_policy(RoleName="ray-image-tuning-head", PolicyName="autoscaler")
    statements = yaml.safe_load(policy["PolicyDocument"])["Statement"]  # moto gives a dict's repr
    assert [statement["Sid"] for statement in statements if statement["Resource"] == "*"] == ["See"]
    actions = [statement["Action"] for statement in statements]
    return {action for some in actions for action in ([some] if isinstance(some, str) else some)}


@pytest.mark.usefixtures("simulated_aws")
def test_ray_up_and_the_autoscaler_work_with_the_rights_of_the_head() -> None:
    base = deploy()
    config = ray_up(base)
    resources = config["available_node_types"]["worker"]["resources"]
    assert (resources["CPU"], resources["GPU"]) == (4, 1)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    calls: set[str] = set()
    for client in (provider.ec2, provider.ec2_fail_fast):
        client.meta.client.meta.events.register("before-call.ec2.*", lambda model, **_: calls.add(f"ec2:{model.name}"))
    for kind in ("head", "worker"):
        node_config = {**config["available_node_types"][kind]["node_config"]}
        provider.create_node(node_config, {"ray-node-type": kind, "ray-node-name": kind}, 1)
    (node,) = provider.non_terminated_nodes({"ray-node-type": "worker"})
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    assert provider.node_tags(node)["ray-node-status"] == "up-to-date"
    (worker,) = boto3.client("ec2").describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"]
    assert (worker["InstanceLifecycle"], worker["InstanceType"]) == ("spot", "g5.xlarge")
    assert worker["MetadataOptions"]["HttpTokens"] == "required"
    assert "IamInstanceProfile" not in worker
    assert [group["GroupId"] for group in worker["SecurityGroups"]] == [base["SecurityGroup"]]
    provider.terminate_node(node)
    assert provider.non_terminated_nodes({"ray-node-type": "worker"}) == []
    assert calls == allowed()


@pytest.mark.usefixtures("simulated_aws")
def test_only_one_address_may_log_in() -> None:
    group = deploy()["SecurityGroup"]
    (found,) = boto3.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    from_outside = [(rule["FromPort"], rule["IpRanges"]) for rule in found["IpPermissions"] if rule["IpRanges"]]
    assert from_outside == [(22, [{"CidrIp": "203.0.113.7/32"}])]
