"""What cluster/README.md says is so: six commands a way, each of which its program would take, and files that exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from ray.scripts.scripts import cli

from tuning import options

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "cluster" / "README.md").read_text()
WAYS = ("AWS", "Google Cloud", "Kubernetes")
MADE = {"cluster/my-aws.yaml", "cluster/my-gcp.yaml"}  # by the commands before


def commands(title: str) -> list[str]:
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if line]


ALL = [command for title in (*WAYS, "The end") for command in commands(title)]
INLINE = set(re.findall(r"`(ray [^`]+)`", TEXT)) - {"ray up", "ray down"}  # mere mentions


@pytest.mark.parametrize("way", WAYS)
def test_six_commands_lead_to_a_study(way: str) -> None:
    assert len(commands(way)) == 6


@pytest.mark.parametrize("command", [command for command in (*ALL, *sorted(INLINE)) if command.startswith("ray ")])
def test_ray_takes_its_commands(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    known = cli.get_command(None, name)
    assert known is not None
    with known.make_context(name, arguments) as context:
        assert context.params.get("cluster_config_file", "cluster/my-aws.yaml") in MADE


@pytest.mark.parametrize("command", [command for command in ALL if "tuning.launch" in command])
def test_its_studies_are_studies(command: str) -> None:
    inner = next(word for word in shlex.split(command) if "tuning.launch" in word)
    assert inner.startswith("RAY_AUTH_MODE=token ~/venv/bin/python -m tuning.launch --address auto ")
    study, _ = options.request(options.parse(shlex.split(inner)[4:]))
    assert study.gpus_per_trial == 1
    assert study.gpu_hours == 20
    assert study.results_dir.startswith("/shared/")


@pytest.mark.parametrize("command", ALL)
def test_its_files_exist(command: str) -> None:
    for path in re.findall(r"(?<![\w/.-])((?:cluster|search_spaces)/[\w./-]+)", command):
        assert path in MADE or (ROOT / path).exists(), path


def test_its_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"'\.\[([\w,]+)\]'", TEXT) for name in group.split(",")}
    assert named == {"aws", "gcp", "cluster"}
    assert named <= set(extras)


def test_its_table_names_every_recipe() -> None:
    table = TEXT.split("## AWS")[0]
    for path in (ROOT / "cluster").rglob("*"):
        shown = path.relative_to(ROOT / "cluster")
        if path.suffix in (".yaml", ".sh") and not path.name.startswith("my-"):
            assert f"`{shown}`" in table or f"`{shown.parent}/`" in table, shown
