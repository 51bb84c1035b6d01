"""The fastest format wins, and one that is hopeless costs a single step."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import datasets
from tuning.classifier import Format
from tuning.formats import candidates, fastest, has_bfloat16
from tuning.spec import HParams
from tuning.training import Training

SPLITS = datasets.load("digits", root="unused")
SECONDS = {
    "float32 contiguous": 0.01,
    "float32 channels_last": 0.004,
    "bfloat16 contiguous": 0.2,
    "bfloat16 channels_last": 0.012,
}


def name(format: Format) -> str:
    return f"{format.precision} {format.memory_format}"


class Paced(Training):
    """A real training whose steps take a known time longer."""

    steps: dict[str, int]

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        time.sleep(SECONDS[name(self.format)])
        self.steps[name(self.format)] = self.steps.get(name(self.format), 0) + 1
        return super().step(images, labels, generator)


def test_the_fastest_is_chosen_and_the_hopeless_given_up() -> None:
    Paced.steps = {}

    def make(format: Format) -> Training:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        options: dict[str, Any] = {"epochs": 1, "seed": 0, "format": format}
        return Paced(network, HParams(lr=0.1, batch_size=32), SPLITS, **options)

    make(Format()).step(
        torch.tensor(SPLITS.train.images[:32]), torch.tensor(SPLITS.train.labels[:32]), torch.Generator()
    )
    Paced.steps = {}
    chosen, speeds = fastest(make, candidates("auto", "auto", "cuda"))
    assert name(chosen) == "float32 channels_last"
    assert speeds[chosen] == max(speeds.values())
    assert Paced.steps["bfloat16 contiguous"] == 1
    assert Paced.steps["float32 contiguous"] > 1


def test_what_the_user_fixes_is_not_varied() -> None:
    assert [name(f) for f in candidates("auto", "auto", "cuda")] == list(SECONDS)
    fixed = Format(precision="bfloat16", memory_format="channels_last")
    assert candidates("bfloat16", "channels_last", "cpu") == candidates("bfloat16", "channels_last", "cuda") == [fixed]
    assert len(candidates("auto", "contiguous", "cuda")) == 2


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),
    ],
    ids=str,
)
def test_bfloat16_is_left_to_machines_that_compute_it(capabilities: dict[str, bool], expected: bool) -> None:
    assert has_bfloat16(capabilities) == expected


def test_a_cpu_that_emulates_bfloat16_does_not_time_it() -> None:
    precisions = {format.precision for format in candidates("auto", "auto", "cpu")}
    assert ("bfloat16" in precisions) == has_bfloat16(torch.cpu.get_capabilities())
