"""A configuration survives the way into the cube and back, and the cube covers the space."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

import search_spaces
from tuning.cube import Cube

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "drop": FloatDistribution(0.0, 0.5),
    "size": IntDistribution(16, 512, log=True),
    "layers": IntDistribution(1, 5),
    "even": IntDistribution(2, 10, step=2),
    "kind": CategoricalDistribution(("a", "b", None)),
}
CUBE = Cube(DISTRIBUTIONS, {"drop": ("kind", "b")})
POINTS = st.lists(st.floats(0, 1), min_size=6, max_size=6).map(np.array)


@given(POINTS)
def test_every_point_is_a_configuration_and_back(point: Any) -> None:
    config = CUBE.config(point)
    assert CUBE.fits(config)
    assert ("drop" in config) == (config["kind"] == "b")
    again = CUBE.config(CUBE.point(config))
    assert again.keys() == config.keys()
    for name, value in config.items():
        assert again[name] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value)


def test_whole_numbers_and_choices_are_drawn_evenly() -> None:
    configs = [CUBE.config(point) for point in CUBE.draw(6000, np.random.default_rng(0))]
    drawn: dict[str, list[object]] = {"layers": [1, 2, 3, 4, 5], "even": [2, 4, 6, 8, 10], "kind": ["a", "b", None]}
    for name, values in drawn.items():
        counts = [sum(config[name] == value for config in configs) for value in values]
        assert sum(counts) == 6000
        assert min(counts) > 0.85 * 6000 / len(values), name
    rates = np.log10([config["lr"] for config in configs])
    assert np.histogram(rates, bins=4, range=(-4, 0))[0].min() > 1350


def test_what_does_not_belong_to_the_space_does_not_fit() -> None:
    config = CUBE.config(np.full(6, 0.4))
    assert CUBE.fits(config)
    assert config["kind"] == "b"
    wrong: list[dict[str, Any]] = [
        {"lr": 2.0}, {"kind": "c"}, {"layers": 6}, {"even": 3}, {"more": 1}, {"kind": "a"}, {"lr": "fast"},
    ]  # fmt: skip
    for change in wrong:
        assert not CUBE.fits({**config, **change}), change
    assert not CUBE.fits({})


def test_neighbours_keep_half_of_the_coordinates_and_stay_inside() -> None:
    start = np.full((4000, 6), 0.99)
    moved = CUBE.moved(start, 0.1, 0.5, np.random.default_rng(0))
    assert ((moved >= 0) & (moved <= 1)).all()
    assert (moved == start).mean() == pytest.approx(0.5, abs=0.03)
    numbers = moved[:, :5][moved[:, :5] != start[:, :5]]
    assert np.abs(numbers - 0.99).max() < 0.6
    assert np.unique(np.floor(moved[:, 5] * 3)).tolist() == [0, 1, 2], "choices are drawn anew"


def test_what_is_left_out_makes_no_difference_to_a_model() -> None:
    points = np.full((3, 6), 0.1)
    points[:, 5], points[:, 1] = [0.1, 0.1, 0.5], [0.0, 1.0, 1.0]  # kind a, a, b; drop
    features = CUBE.features(points)
    assert (features[0] == features[1]).all()
    assert features[2][1] == 1.0
    assert np.linalg.norm(features[0][5:] - features[2][5:]) == pytest.approx(1.0), "two choices lie 1 apart"


@pytest.mark.parametrize("name", ["resnet20", "efficientnet_b0", "vit_b_16", "timm:any"])
def test_a_published_recipe_survives_the_way(name: str) -> None:
    space = search_spaces.for_model(name)
    cube, recipe = Cube(space.distributions, space.conditions), space.active(space.baseline)
    assert cube.fits(recipe)
    again = cube.config(cube.point(recipe))
    assert again.keys() == recipe.keys()
    for key, value in recipe.items():
        assert again[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value)
