"""The recorded learning curves: what is kept comes back, and lies in its space."""

import math
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from benchmarks.curves import load, save


def test_a_table_comes_back(tmp_path: Path) -> None:
    lr, batches = FloatDistribution(1e-5, 0.5, log=True), CategoricalDistribution((32, 64))
    distributions = {"lr": distribution_to_json(lr), "batch_size": distribution_to_json(batches)}
    space = {"distributions": distributions, "conditions": {"lr": ["batch_size", 64]}, "baseline": {"batch_size": 32}}
    common = {"seconds": 0.25, "averaged": [0.1, 0.2, 0.30001]}
    trainings = [
        {"trial": 7, "seed": 1, "config": {"lr": 2e-5, "batch_size": 64}, "last": [0.5], **common},
        {"trial": 7, "seed": 0, "config": {"lr": 2e-5, "batch_size": 64}, "last": [0.1234, 0.0, 1.0], **common},
        {"trial": 2, "seed": 0, "config": {"batch_size": 32}, "last": [], **common},
    ]
    save(trainings, {"epochs": 3, "space": space}, tmp_path / "t.csv.gz")
    curves = load(tmp_path / "t.csv.gz")
    assert curves.distributions == {"lr": lr, "batch_size": batches}
    assert (curves.conditions, curves.baseline) == ({"lr": ("batch_size", 64)}, {"batch_size": 32})
    assert curves.facts == {"epochs": 3}
    assert [trial.config for trial in curves.trials] == [{"batch_size": 32}, {"lr": 2e-5, "batch_size": 64}]
    np.testing.assert_equal(curves.trials[1].curves, [[0.1234, 0.0, 1.0], [0.5, math.nan, math.nan]])
    np.testing.assert_equal(curves.trials[1].averaged, [[0.1, 0.2, 0.3]] * 2)
    assert np.isnan(curves.trials[0].curves).all(), "it diverged in its first epoch"
    assert curves.trials[0].seconds == 0.25


def test_the_recorded_ones_lie_in_their_space() -> None:
    curves = load()
    epochs = curves.facts["epochs"]
    assert curves.trials[0].config == pytest.approx(curves.baseline)
    for trial in curves.trials:
        assert trial.curves.shape == trial.averaged.shape == (2, epochs)
        assert np.nanmax(trial.curves) <= 1
        for name, value in trial.config.items():
            distribution = curves.distributions[name]
            assert distribution._contains(distribution.to_internal_repr(value))
