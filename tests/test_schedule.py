"""Learning-rate schedules against hand-computed values and their defining properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.schedule import drops, lr_factor, plateaus
from tuning.spec import HParams


@given(st.floats(0, 0.9), st.floats(0, 0.999), st.sampled_from(["cosine", "step", "plateau"]))
def test_factors_lie_between_0_and_1(warmup: float, progress: float, schedule: str) -> None:
    hparams = HParams(lr=1, schedule=schedule, warmup=warmup)
    assert 0 <= lr_factor(hparams, progress, [1.0, 1.0, 1.0, 1.0]) <= 1


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    hparams = HParams(lr=1, schedule="cosine", warmup=0.2)
    assert lr_factor(hparams, 0.05, []) == pytest.approx(0.25)
    assert lr_factor(hparams, 0.2, []) == pytest.approx(1.0)


def test_cosine_is_half_in_the_middle_and_falls_to_zero() -> None:
    hparams = HParams(lr=1, schedule="cosine")
    assert lr_factor(hparams, 0.0, []) == 1.0
    assert lr_factor(hparams, 0.5, []) == pytest.approx(0.5)
    assert lr_factor(hparams, 0.9999, []) == pytest.approx(0.0, abs=1e-6)


def test_steps_of_the_resnet_paper() -> None:
    hparams = HParams(lr=1, schedule="step", step_start=0.5, step_every=0.25, step_gamma=0.1)
    assert [round(lr_factor(hparams, p, []), 6) for p in (0.0, 0.49, 0.5, 0.74, 0.75, 0.99)] == [
        1,
        1,
        0.1,
        0.1,
        0.01,
        0.01,
    ]


def test_steps_of_the_efficientnet_paper() -> None:
    share = 2.4 / 350
    assert drops(share * 0.99, share, share) == 0
    assert drops(share, share, share) == 1
    assert drops(1 - 1e-6, share, share) == 145


def test_plateau_drops_after_more_than_patience_bad_epochs() -> None:
    assert plateaus([3, 2, 1], patience=0) == 0
    assert plateaus([1, 1], patience=0) == 1
    assert plateaus([1, 2, 2], patience=2) == 0
    assert plateaus([1, 2, 2, 2], patience=2) == 1
    assert plateaus([1, 2, 2, 2, 2, 2, 2], patience=2) == 2
    assert plateaus([1, 2, 2, 0.5, 2, 2], patience=2) == 0
