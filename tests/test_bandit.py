"""Which architecture gets the next trial: promises that hold for all scores, and a race against an even split."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.bandit import Arm, chance, choose, leader

RUNGS, FACTOR = (2, 6, 18), 3.0
Draw = Callable[
    [random.Random], tuple[float, float]
]  # the final score of a trial, and what it lacks of it at the start


class Race:
    """A study of made-up trials under ASHA: each lacks a part of its final score at the lower rungs."""

    def __init__(self, draws: list[Draw], seed: int) -> None:
        self.draws, self.random = draws, random.Random(seed)
        self.recipes: list[dict[int, float]] = [{} for _ in draws]
        self.scores: list[dict[int, list[float]]] = [{rung: [] for rung in RUNGS} for _ in draws]
        self.rungs: dict[int, list[float]] = {rung: [] for rung in RUNGS}
        self.pulled: list[int] = []

    def pulls(self, arm: int) -> int:
        return self.pulled.count(arm)

    def arms(self) -> list[Arm]:
        return [
            Arm(pulls=self.pulls(index), recipe=recipe, scores=scores)
            for index, (recipe, scores) in enumerate(zip(self.recipes, self.scores, strict=True))
        ]

    def pull(self, arm: int) -> None:
        final, slow = self.draws[arm](self.random)
        recipe = not self.pulls(arm)
        self.pulled.append(arm)
        for place, rung in enumerate(RUNGS, start=1):
            score = final - slow * (1 - place / len(RUNGS))
            if recipe:
                self.recipes[arm][rung] = score
            else:
                self.scores[arm][rung].append(score)
            self.rungs[rung].append(score)
            ranked = sorted(self.rungs[rung], reverse=True)
            if not recipe and len(ranked) >= FACTOR and score < ranked[math.ceil(len(ranked) / FACTOR) - 1]:
                return

    def run(self, trials: int) -> "Race":
        for _ in range(trials):
            self.pull(choose(self.arms(), RUNGS, FACTOR))
        return self


def spread(best: float, slow: float = 0.3) -> Draw:
    """Scores up to `best`, most of them well below."""
    return lambda source: (best - 0.15 * source.weibullvariate(1, 1.5), slow)


def constant(score: float, slow: float = 0.3) -> Draw:
    return lambda source: (score, slow)


SCORES = st.dictionaries(st.sampled_from(RUNGS), st.lists(st.floats(0, 1) | st.just(-math.inf), max_size=6))
RECIPES = st.dictionaries(st.sampled_from(RUNGS), st.floats(0, 1))
ARMS = st.lists(st.builds(Arm, pulls=st.integers(0, 40), recipe=RECIPES, scores=SCORES), min_size=1, max_size=5)


@given(ARMS)
def test_any_scores_give_a_choice_and_nobody_is_ruled_out(arms: list[Arm]) -> None:
    assert 0 <= choose(arms, RUNGS, FACTOR) < len(arms)
    lead = leader(arms, RUNGS)
    for arm in arms:
        assert 0 < chance(arm, lead, RUNGS, FACTOR) <= 1 / (arm.pulls + 1)


@given(ARMS)
def test_the_same_scores_give_the_same_choice(arms: list[Arm]) -> None:
    assert choose(arms, RUNGS, FACTOR) == choose(list(arms), RUNGS, FACTOR)


@given(st.lists(st.floats(0.1, 0.9), min_size=2, max_size=6), st.integers(0, 9))
def test_each_gets_its_recipe_first_and_a_fair_number_before_it_is_judged(bests: list[float], seed: int) -> None:
    race = Race([spread(best) for best in bests], seed).run(3 * len(bests))
    assert race.pulled[: len(bests)] == list(range(len(bests)))
    assert [race.pulls(arm) for arm in range(len(bests))] == [3] * len(bests)


@given(st.integers(2, 5))
def test_ties_are_split_evenly(arms: int) -> None:
    race = Race([constant(0.8)] * arms, 0).run(12 * arms)
    assert [race.pulls(arm) for arm in range(arms)] == [12] * arms


@given(st.floats(0.05, 0.5), st.integers(9, 30))
def test_the_more_an_arm_trails_the_less_likely_it_is_to_be_chosen(gap: float, pulls: int) -> None:
    lead = Arm(pulls=pulls, scores={18: [0.9, 0.88, 0.87]})
    chances = [
        chance(Arm(pulls=pulls, scores={18: [0.9 - distance]}), lead, RUNGS, FACTOR)
        for distance in (0.0, gap / 2, gap, math.inf)  # the last: it only diverged
    ]
    assert all(near > far for near, far in pairwise(chances))


def test_more_scores_make_the_verdict_harder() -> None:
    """Trailing by as much, an arm gets the less the more is known of how far scores lie apart."""
    scores = [0.9 - 0.001 * index for index in range(10)]
    weak = Arm(pulls=10, scores={18: [0.7]})
    chances = [chance(weak, Arm(pulls=3 * known, scores={18: scores[:known]}), RUNGS, FACTOR) for known in (1, 2, 4, 8)]
    assert all(few > many for few, many in pairwise(chances))


def test_a_weak_recipe_says_nothing_of_how_far_the_best_lie_apart() -> None:
    with_weak = Arm(pulls=9, recipe={18: 0.2}, scores={18: [0.9, 0.89, 0.88]})
    assert with_weak.distances(18, FACTOR) == pytest.approx([0.02, 0.01])
    assert with_weak.best(18) == 0.9


def test_architectures_are_compared_at_the_highest_rung_that_both_have_reached() -> None:
    slow = Arm(pulls=4, recipe={2: 0.1, 6: 0.5, 18: 0.95}, scores={2: [0.1, 0.1]})
    fast = Arm(pulls=4, recipe={2: 0.6, 6: 0.8, 18: 0.85}, scores={2: [0.6, 0.7]})
    assert choose([fast, slow], RUNGS, FACTOR) == 1
    behind = Arm(pulls=4, recipe={2: 0.6}, scores={2: [0.6, 0.7]})
    assert chance(behind, slow, RUNGS, FACTOR) == 1 / 5, "at the first rung, the only one of both, it does not trail"


def test_an_architecture_that_only_diverges_fades() -> None:
    race = Race([spread(0.9), constant(-math.inf)], 0).run(60)
    assert race.pulls(1) <= 12


SEEDS = range(12)


def test_a_dominated_arm_falls_to_its_floor() -> None:
    races = [Race([spread(0.93), spread(0.73)], seed).run(60) for seed in SEEDS]
    assert all(race.pulled[:6].count(1) == 3 for race in races), "half of the first trials"
    assert mean(race.pulled[6:].count(1) for race in races) < 54 / 4
    assert min(race.pulls(1) for race in races) >= 10, "a third of an even share"


def test_a_late_bloomer_is_not_starved() -> None:
    """It is behind at the first two rungs, and ahead at the end."""
    races = [Race([spread(0.88, slow=0.1), spread(0.95, slow=0.4)], seed).run(60) for seed in SEEDS]
    assert min(race.pulls(1) for race in races) >= 10
    assert mean(race.pulls(1) for race in races) > 30


@pytest.mark.parametrize("bests", [[0.83, 0.93], [0.95, 0.9, 0.85, 0.7]])
def test_the_best_arm_gets_most_and_regret_is_below_that_of_an_even_split(bests: list[float]) -> None:
    """The oracle gives all trials to the best; regret is how much lower the other arms' ceilings are, a trial each."""
    best = bests.index(max(bests))
    races = [Race([spread(each) for each in bests], seed).run(60) for seed in SEEDS]
    regrets = [sum(max(bests) - bests[arm] for arm in race.pulled) for race in races]
    even = 60 * mean(max(bests) - each for each in bests)
    assert max(regrets) < even
    assert mean(regrets) < even / 2
    most = [max(range(len(bests)), key=race.pulls) == best for race in races]
    assert mean(most) > 0.8
