"""`python -m models`: the table, one architecture's layers, the chart."""

import subprocess
import sys
from pathlib import Path

import pytest

import models
from models import __main__ as cli

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "models", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_it_lists_every_architecture_with_its_parameters() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    rows = {cells[1].strip(): cells for line in done.stdout.splitlines() if len(cells := line.split("│")) > 7}
    assert set(rows) == set(models.names())
    assert [cell.strip() for cell in rows["vgg19"][1:8]] == [
        "vgg19", "vgg", "2014", "1409.1556", "143,667,240", "32", "224",
    ]  # fmt: skip
    assert rows["vit_b_16"][6].strip() == "32, x 16"


def test_it_prints_the_layers_of_one() -> None:
    done = run("vgg19")
    assert done.returncode == 0
    assert "Total params: 143,667,240" in done.stdout
    assert "Total mult-adds (G): 19.6" in done.stdout
    assert "[1, 512, 14, 14]" in done.stdout
    small = run("resnet20", "--classes", "10")
    assert "Total params: 269,722" in small.stdout
    assert "[1, 10]" in small.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet19"], "error: unknown model 'resnet19'; did you mean resnet1"),
        (["alexnet", "--image-size", "32"], "error: alexnet needs images of at least 63 px, got 32"),
        (["--plot", "no/such/folder.png"], "error: [Errno 2] No such file or directory"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_the_chart_shows_size_against_accuracy_on_both_benchmarks() -> None:
    imagenet, cifar = cli.chart().axes
    assert imagenet.get_ylabel() == "published accuracy on ImageNet, %"
    assert cifar.get_ylabel() == "published accuracy on CIFAR-10, %"
    points = {text.get_text(): text.xy for axes in (imagenet, cifar) for text in axes.texts}  # type: ignore[attr-defined]
    assert points["resnet50"] == (pytest.approx(25.557032), 76.13)
    assert points["resnet20"][1] == 91.25
    assert set(points) == {name for name in models.names() if models.architecture(name).published}
