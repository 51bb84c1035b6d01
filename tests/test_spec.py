"""A spec is valid once constructed; rungs are evenly spaced from the full length down."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.spec import HParams, StudySpec, from_json, rungs


def spec(**fields: Any) -> StudySpec:
    return StudySpec(**{"model": "resnet20", "name": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "resnet2"}, "unknown model 'resnet2'"),
        ({"dataset": "nowhere"}, "unknown data set 'nowhere'"),
        ({"name": "a/b"}, "name must be letters"),
        ({"name": ""}, "name must be letters"),
        ({"name": "x'y"}, "name must be letters"),
        ({"trials": 0}, "trials must be a whole number from 1"),
        ({"trials": 10**9}, "trials must be a whole number"),
        ({"trials": True}, "trials must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"seed": -1}, "seed must be"),
        ({"time_budget": float("nan")}, "time_budget must be a number"),
        ({"time_budget": 0}, "time_budget must be a number from 1"),
        ({"epoch_budget": 0}, "epoch_budget must be a whole number from 1"),
        ({"gpu_hours": 0}, "gpu_hours must be a number from 0.001"),
        ({"gpu_hours": 1.0, "gpus_per_trial": 0}, "gpu_hours counts GPUs, but gpus_per_trial is 0"),
        ({"cpus_per_trial": 0}, "cpus_per_trial must be"),
        ({"max_share": 0}, "max_share must be"),
        ({"max_share": 1.5}, "max_share must be"),
        ({"gpus_per_trial": 65}, "gpus_per_trial must be a number from 0 to 64"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial above 1 must be whole, such as 2, got 1.5"),
        ({"gpus_per_trial": "all"}, "gpus_per_trial must be one of auto"),
        ({"gpus_per_trial": 1e-9}, "gpus_per_trial must be 0 or at least 0.01"),
        ({"image_size": 0}, "image_size must be"),
        ({"val_fraction": 1.0}, "val_fraction must be"),
        ({"epochs": 5, "grace_epochs": 6}, "grace_epochs must be a whole number from 1 to 5"),
        ({"reduction_factor": 1.0}, "reduction_factor must be"),
        ({"scheduler": "pbt"}, "scheduler pbt changes hyperparameters while it trains"),
        ({"scheduler": "bohb"}, "scheduler must be one of asha, "),
        ({"objectives": "val_accuracy,parameters", "sampler": "cmaes"}, "sampler cmaes compares one number"),
        ({"constraints": "parameters<5", "scheduler": "median"}, "scheduler median compares one number"),
        ({"objectives": "val_accuracy,parameters", "rivals": ("vgg11",)}, "several architectures share a budget by"),
        ({"sampler": "grid", "rivals": ("vgg11",)}, "sampler grid ends with its grid"),
        ({"sampler": "bore"}, "sampler must be one of "),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"memory_format": "nhwc"}, "memory_format must be one of"),
        ({"finals": "3"}, "finals must be KxS"),
        ({"finals": "0x1"}, "finals must be KxS"),
        ({"results_dir": ""}, "must not be empty"),
        ({"objectives": "val_accuracy,speed"}, "objectives: unknown metric 'speed'"),
        ({"constraints": "latency_ms>5"}, "latency_ms is better the smaller"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**fields)


def test_a_spec_survives_json() -> None:
    original = spec(trials=3, image_size=32, time_budget=60.0)
    assert from_json(dataclasses.asdict(original)) == original
    with pytest.raises(ValueError, match="does not know: colour"):
        from_json({**dataclasses.asdict(original), "colour": "red"})


def test_finalists() -> None:
    assert spec(finals="3x5").finalists == (3, 5)


@given(st.integers(1, 500), st.floats(1.5, 10), st.data())
def test_rungs_ascend_to_the_full_length(epochs: int, factor: float, data: st.DataObject) -> None:
    grace = data.draw(st.none() | st.integers(1, epochs))
    levels = rungs(epochs, grace, factor)
    assert list(levels) == sorted(set(levels))
    assert levels[-1] == epochs
    assert levels[0] >= (grace or 1)
    if grace:
        assert levels[0] == grace


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, (1,)), (2, (1, 2)), (9, (3, 9)), (27, (3, 9, 27)), (100, (11, 33, 100))]
)
def test_default_rungs_leave_a_trial_time_to_show_itself(epochs: int, expected: tuple[int, ...]) -> None:
    assert rungs(epochs, None, 3) == expected


def test_hyperparameters_are_checked_and_typed() -> None:
    assert HParams(lr=1, batch_size=32.0).batch_size == 32  # type: ignore[arg-type]
    assert isinstance(HParams(lr=1).lr, float)
    with pytest.raises(ValueError, match="schedule must be one of cosine, linear, step, plateau"):
        HParams(lr=0.1, schedule="square")
    with pytest.raises(ValueError, match="dropout must be a number from 0 to 0.95"):
        HParams(lr=0.1, dropout=1.0)


def test_only_set_model_options_reach_the_model() -> None:
    assert HParams(lr=0.1).model_options == {}
    assert HParams(lr=0.1, dropout=0.0).model_options == {"dropout": 0.0}
    assert HParams(lr=0.1, aux_weight=0.3, se_ratio=8).model_options == {"se_ratio": 8, "aux": True}
