"""A Gaussian process over configurations and how long they were trained, and where it expects an improvement."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

from tuning.cube import Array, Cube

# Log-normal priors, centre and deviation of the logarithm. Lengths grow with the root of the number of inputs, so that
# points of a cube are as much alike in many dimensions as in few (Hvarfner et al. 2024, arXiv:2402.02229).
LENGTH, LENGTH_DEVIATION = 0.5, 1.0
TIME_LENGTH = 1.0  # of the logarithm of the epochs, about one rung
NOISE, NOISE_DEVIATION = 1e-2, 1.5  # of the variance of the scores
JITTER = 1e-6
STEPS = 25  # of the optimiser; the prior is a good start
RANDOM_CANDIDATES, NEIGHBOURS, ROUNDS = 500, 300, 3


class Gaussian:
    """Scores as a function of features and log time, by a Matern-5/2 kernel with a length for each of the inputs."""

    def __init__(self, inputs: int) -> None:
        self.centre = np.log([*[LENGTH * math.sqrt(inputs)] * inputs, TIME_LENGTH, NOISE])
        self.deviation = np.array([LENGTH_DEVIATION] * inputs + [LENGTH_DEVIATION / 2, NOISE_DEVIATION])
        self.parameters = self.centre

    def fit(self, inputs: Array, scores: Array) -> None:
        """The most probable lengths and noise, given `scores` (n,) of mean 0 at `inputs` (n, features + 1)."""
        squares = (inputs[:, None, :] - inputs[None, :, :]) ** 2
        found = minimize(
            self._loss, self.parameters, args=(squares, scores), jac=True, method="L-BFGS-B",
            bounds=[(c - 4 * d, c + 4 * d) for c, d in zip(self.centre, self.deviation, strict=True)],
            options={"maxiter": STEPS},
        )  # fmt: skip
        self.parameters = found.x
        self.observe(inputs, scores)

    def observe(self, inputs: Array, scores: Array) -> None:
        """Conditions on `scores`, with lengths and noise as they are."""
        self.inputs, self.scores = inputs, scores
        covariance = self._kernel(inputs, inputs) + self._noise * np.eye(len(scores))
        self._root = np.linalg.cholesky(covariance)
        self._weights = cho_solve((self._root, True), scores)
        self._scale = max(float(scores @ self._weights) / len(scores), 1e-9)

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at each input."""
        kernel = self._kernel(inputs, self.inputs)
        explained = solve_triangular(self._root, kernel.T, lower=True, check_finite=False)
        variance = np.maximum(1.0 - (explained**2).sum(0), 1e-9) * self._scale
        return kernel @ self._weights, np.sqrt(variance)

    @property
    def _noise(self) -> float:
        return float(np.exp(self.parameters[-1])) + JITTER

    def _kernel(self, left: Array, right: Array) -> Array:
        lengths = np.exp(self.parameters[:-1])
        a, b = left / lengths, right / lengths
        squares = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0)
        return _matern(np.sqrt(5 * squares))

    def _loss(self, parameters: Array, squares: Array, scores: Array) -> tuple[float, Array]:
        """Minus the log posterior of the parameters, with the scale of the scores integrated out, and its gradient."""
        weights = np.exp(-2 * parameters[:-1])
        distance = np.sqrt(5 * (squares @ weights) + 1e-12)
        noise, count = float(np.exp(parameters[-1])), len(scores)
        try:
            root = np.linalg.cholesky(_matern(distance) + (noise + JITTER) * np.eye(count))
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(parameters)
        inverse = cho_solve((root, True), np.eye(count), check_finite=False)
        solved = inverse @ scores
        scale = max(float(scores @ solved) / count, 1e-12)
        outer = inverse - np.outer(solved, solved) / scale
        inner = outer * ((5 / 3) * (1 + distance) * np.exp(-distance))
        gradient = 0.5 * np.append(
            np.tensordot(inner, squares, axes=2) * weights,
            np.trace(outer) * noise,
        )
        away = (parameters - self.centre) / self.deviation
        loss = 0.5 * count * math.log(scale) + float(np.log(np.diag(root)).sum()) + 0.5 * float(away @ away)
        return loss, gradient + away / self.deviation


def normal_scores(scores: Array) -> Array:
    """Scores by rank alone, spread like draws of a standard normal: neither a crash nor a ceiling can bend a model."""
    ranked = np.sort(scores)
    middle = (np.searchsorted(ranked, scores, side="left") + np.searchsorted(ranked, scores, side="right")) / 2
    spread: Array = ndtri(middle / len(scores))  # ties share the middle of their ranks
    return spread


def most_promising(model: Gaussian, cube: Cube, known: Array, rng: np.random.Generator) -> Array:
    """The point whose expected improvement at full length (time 0) over the best of the `known` points is highest.

    The best is that of the model's means: a lucky score is no bar.
    """
    means, _ = model.predict(_at_the_end(cube, known))
    best = float(means.max())
    leaders = known[np.argsort(-means)[:10]]
    candidates = np.vstack([cube.draw(RANDOM_CANDIDATES, rng), _around(cube, leaders, 0.1, rng)])
    for turn in range(ROUNDS):
        order = np.argsort(-_improvement(model, cube, candidates, best))
        leaders = candidates[order[:10]]
        if turn < ROUNDS - 1:
            candidates = np.vstack([leaders, _around(cube, leaders, 0.1 / 2 ** (turn + 1), rng)])
    chosen: Array = leaders[0]
    return chosen


def _around(cube: Cube, points: Array, deviation: float, rng: np.random.Generator) -> Array:
    repeated = np.repeat(points, max(NEIGHBOURS // len(points), 1), axis=0)
    return cube.moved(repeated, deviation, 0.5, rng)


def _improvement(model: Gaussian, cube: Cube, points: Array, best: float) -> Array:
    mean, deviation = model.predict(_at_the_end(cube, points))
    z = (mean - best) / deviation
    improvement: Array = deviation * (z * ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))
    return improvement


def _at_the_end(cube: Cube, points: Array) -> Array:
    return np.column_stack([cube.features(points), np.zeros(len(points))])


def _matern(distance: Array) -> Array:
    kernel: Array = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return kernel
