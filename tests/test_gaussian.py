"""The Gaussian process: its gradient, its predictions and its choices, against plain oracles."""

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from scipy.optimize import check_grad

from tuning.cube import Cube
from tuning.gaussian import Gaussian, most_promising, normal_scores

RNG = np.random.default_rng(0)
INPUTS = np.column_stack([RNG.random((40, 3)), np.log(RNG.choice([3, 9, 27], 40) / 27)])
SCORES = normal_scores(np.sin(5 * INPUTS[:, 0]) + INPUTS[:, 3] * 0.3)
DISTRIBUTIONS: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in "abc"}


def test_the_gradient_is_that_of_the_loss() -> None:
    model = Gaussian(3)
    squares = (INPUTS[:, None, :] - INPUTS[None, :, :]) ** 2
    for shift in (0.0, 0.7, -0.5):
        error = check_grad(
            lambda p: model._loss(p, squares, SCORES)[0],
            lambda p: model._loss(p, squares, SCORES)[1],
            model.centre + shift,
        )
        assert error < 1e-3


def test_predictions_are_those_of_the_textbook() -> None:
    model = Gaussian(3)
    model.observe(INPUTS, SCORES)
    new = RNG.random((5, 4)) - [0, 0, 0, 1]
    lengths, noise = np.exp(model.parameters[:-1]), np.exp(model.parameters[-1]) + 1e-6

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        r = np.sqrt(5 * (((left[:, None] - right[None]) / lengths) ** 2).sum(-1))
        result: np.ndarray = (1 + r + r**2 / 3) * np.exp(-r)
        return result

    inverse = np.linalg.inv(kernel(INPUTS, INPUTS) + noise * np.eye(40))
    cross = kernel(new, INPUTS)
    scale = SCORES @ inverse @ SCORES / 40
    mean, deviation = model.predict(new)
    assert mean == pytest.approx(cross @ inverse @ SCORES)
    assert deviation**2 == pytest.approx(scale * (1 - np.einsum("ij,jk,ik->i", cross, inverse, cross)))


def test_a_fit_finds_which_input_matters() -> None:
    model = Gaussian(3)
    model.fit(INPUTS, SCORES)
    lengths = np.exp(model.parameters[:3])
    assert lengths[0] < 0.5 * min(lengths[1:])
    grid = np.column_stack([RNG.random((200, 3)), np.zeros(200)])
    truth = np.sin(5 * grid[:, 0])
    assert np.corrcoef(model.predict(grid)[0], truth)[0, 1] > 0.95


def test_scores_count_by_their_order_alone() -> None:
    scores = np.array([0.1, 0.5, 0.5, -np.inf, 0.9])
    spread = normal_scores(scores)
    assert spread.argmin() == 3
    assert spread[1] == spread[2]
    assert np.isfinite(spread).all()
    assert (normal_scores(np.exp(10 * scores)) == spread).all()
    assert normal_scores(np.arange(101.0))[50] == pytest.approx(0.0)


def test_the_choice_lies_where_the_best_is_to_be_expected() -> None:
    cube = Cube(DISTRIBUTIONS)
    points = np.random.default_rng(1).random((60, 3))
    scores = normal_scores(-((points[:, 0] - 0.3) ** 2) - (points[:, 1] - 0.6) ** 2)
    model = Gaussian(3)
    model.fit(np.column_stack([points, np.zeros(60)]), scores)
    chosen = most_promising(model, cube, points, np.random.default_rng(2))
    assert abs(chosen[0] - 0.3) < 0.1
    assert abs(chosen[1] - 0.6) < 0.1
