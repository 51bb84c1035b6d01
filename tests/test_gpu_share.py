"""How many trials share a GPU: the choice by value, the probe for real, on processor cores."""

from pathlib import Path

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

import datasets
import search_spaces
from tuning.classifier import Format
from tuning.errors import NoResources
from tuning.gpu_share import GAIN, Probe, answers, best, next_to_try, probe
from tuning.spec import StudySpec
from tuning.storage import Storage
from tuning.training import OutOfMemory
from tuning.trial import TrialSetup

GIB = 2**30


def probes(*speeds: float, memory: int = GIB, total: int = 80 * GIB) -> list[Probe]:
    """Of 1, 2, 4, ... trials."""
    return [Probe(trials=2**n, images_per_second=speed, memory=memory, total=total) for n, speed in enumerate(speeds)]


@pytest.mark.parametrize(
    ("known", "most", "expected"),
    [
        ([], 8, 1),
        (probes(100), 8, 2),
        (probes(100, 180), 8, 4),
        (probes(100, 105), 8, None),  # they only slow each other down
        (probes(100, 180), 2, None),  # no more are allowed, or have cores
        (probes(100, 180, memory=3 * GIB, total=13 * GIB), 8, None),  # four would need 12 of 11.7
        ([Probe(trials=1, images_per_second=9, memory=GIB, whole=False, total=80 * GIB)], 8, None),
    ],
)
def test_more_are_tried_while_it_pays_and_fits(known: list[Probe], most: int, expected: int | None) -> None:
    assert next_to_try(known, most) == expected


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=6))
def test_the_choice_is_nearly_the_fastest_and_no_larger_than_that_takes(speeds: list[float]) -> None:
    known = probes(*speeds)
    chosen = best(known)
    assert chosen.images_per_second * GAIN > max(speeds)
    assert all(p.images_per_second * GAIN <= max(speeds) for p in known if p.trials < chosen.trials)


def test_split_batches_are_no_choice_unless_nothing_else_fits() -> None:
    split = Probe(trials=2, images_per_second=500, memory=GIB, whole=False)
    assert best([*probes(100), split]).trials == 1
    alone = Probe(trials=1, images_per_second=50, memory=GIB, whole=False)
    assert best([alone]) is alone


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OutOfMemory, torch.OutOfMemoryError])
def test_a_trial_that_does_not_fit_is_refused_in_one_line(ray_session: None, kind: type[Exception]) -> None:
    def full(why: Exception) -> None:
        raise why

    task = ray.remote(full).options(num_cpus=0.1)
    why = kind("not even 8 images of 999x999 fit into cuda:0\nand more")
    with pytest.raises(
        NoResources, match=r"^not even one trial fits into a GPU with vgg19: not even 8 images of .*"
    ) as e:
        answers([task.remote(why)], "vgg19")
    assert "\n" not in str(e.value)
    assert e.value.exit_code == 7
    with pytest.raises(ZeroDivisionError):
        answers([task.remote(ZeroDivisionError())], "vgg19")


@pytest.mark.slow
def test_trials_are_probed_at_once(ray_session: None, tmp_path: Path) -> None:
    spec = StudySpec(model="resnet20", name="x", train_images=300)
    space = search_spaces.for_model("resnet20")
    setup = TrialSetup(
        spec=spec, fixed=dict(space.fixed), splits=datasets.load("digits", root="unused", train_images=300),
        format=Format(), storage=Storage(str(tmp_path), "study"), cpus=1, device="cpu",
    )  # fmt: skip
    told = probe(setup, space.active(space.baseline), trials=2, cpus=1)
    assert (told.trials, told.whole, told.memory) == (2, True, 0)
    assert told.images_per_second > 10
