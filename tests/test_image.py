"""The image of a cluster's nodes: its Dockerfile is sound, copies what is there, and installs what is pinned."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sqlalchemy import make_url

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
}


def sources() -> list[str]:
    """What is copied from the project."""
    copies = [text.split() for name, text in INSTRUCTIONS if name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def test_the_linter_is_content() -> None:
    check = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (check.returncode, check.stdout) == (0, "")


def test_the_builder_gets_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == set(sources())
    assert all((ROOT / source).exists() for source in sources())
    left_out = [pattern for pattern in patterns[1:] if not pattern.startswith("!")]
    assert any(fnmatch.fnmatch("cluster/kuberay/secrets.yaml", pattern) for pattern in left_out)
    assert not any(fnmatch.fnmatch(path, pattern) for path in ("cluster/session.py", "LICENSE") for pattern in left_out)


def test_the_wheel_can_be_built_from_what_is_copied(tmp_path: Path) -> None:
    for source in sources():
        where = tmp_path / "src" / source
        where.parent.mkdir(exist_ok=True)
        shutil.copytree(ROOT / source, where) if (ROOT / source).is_dir() else shutil.copy(ROOT / source, where)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*wheel, tmp_path / "dist", tmp_path / "src"], check=True, capture_output=True)
    (built,) = (tmp_path / "dist").iterdir()
    names = set(zipfile.ZipFile(built).namelist())
    for package in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]:
        assert {str(path.relative_to(ROOT)) for path in (ROOT / package).glob("*.py")} <= names
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("search_spaces/one_factor/*.yaml")} <= names


def test_all_that_it_installs_is_pinned() -> None:
    (script,) = re.findall(r"python -c '([^']+)'", DOCKERFILE)
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    requirements = [Requirement(line) for line in output.splitlines()]
    assert {"ray", "torch", "mlflow", "psycopg"} <= {requirement.name for requirement in requirements}
    for requirement in requirements:
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), requirement
    for command in re.findall(r"pip install ((?:.*\\\n)*.*)", DOCKERFILE):
        assert "--constraint constraints.txt" in command or "--no-deps" in command


def test_it_runs_as_nobody_special() -> None:
    assert [text for name, text in INSTRUCTIONS if name == "USER"] == ["1000"]
    assert "--uid 1000" in DOCKERFILE
    after = DOCKERFILE.split("USER 1000")[1]
    assert "RUN" not in after
    (command,) = (json.loads(text) for name, text in INSTRUCTIONS if name == "CMD")
    help_text = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert help_text.stdout.startswith("usage: python -m tuning.launch")


def test_ray_is_the_same_wherever_it_is_named() -> None:
    cluster = yaml.safe_load((ROOT / "cluster" / "kuberay" / "raycluster.yaml").read_text())
    assert cluster["spec"]["rayVersion"] == PINS["ray"]
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert len(bases) == 1  # the wheel is built by the Python that runs it


@pytest.mark.parametrize("file", ["cluster/setup/head.sh", "cluster/kuberay/mlflow.yaml"])
def test_the_pins_hold_the_driver_of_mlflows_database(file: str) -> None:
    """SQLAlchemy chooses it by the address, and MLflow depends on none."""
    (address,) = re.findall(r"postgresql[\w+]*://[^\s\"]*", (ROOT / file).read_text())
    driver = make_url(address).get_dialect()().import_dbapi()
    assert canonicalize_name(driver.__name__) in PINS
