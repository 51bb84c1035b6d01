"""Which of several architectures gets the next trial: the one whose next trial is likeliest to be the best of all.

A study is worth its best trial, so an architecture is judged by the upper tail of its scores and not by their mean.
Of `n` trials of one architecture each is equally likely to be its best: the next one beats them with chance 1/(n + 1).
An architecture that trails the leader by a gap has to exceed its own best by that much too. Tails of scores fall off
about exponentially; how fast is estimated from how far the best scores of an architecture lie apart. Having seen `d`
such distances of sum `s`, the chance to exceed by `gap` is (s / (s + gap)) ** d, which is cautious while `d` is small
(the predictive distribution of an exponential law with unknown scale). The gap itself enters as one distance more:
a leader may owe its lead to luck, so nobody is ruled out by a single score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is known of one architecture: trials handed out, and scores by rung; diverged ones score minus infinity.

    The published recipe runs to the end however weak it is, so its scores say nothing of the tail: they stand apart.
    """

    pulls: int
    recipe: Mapping[int, float] = field(default_factory=dict)
    scores: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def best(self, rung: int) -> float | None:
        """The highest score at a rung; None before the first."""
        known = [*self.scores.get(rung, ()), *([self.recipe[rung]] if rung in self.recipe else [])]
        return max(known, default=None)

    def distances(self, rung: int, reduction_factor: float) -> list[float]:
        """How far the best scores at a rung lie above the last of them; as many as early stopping lets go on."""
        kept = math.ceil(self.pulls / reduction_factor)
        tail = sorted((score for score in self.scores.get(rung, ()) if math.isfinite(score)), reverse=True)[:kept]
        return [score - tail[-1] for score in tail[:-1]]


def choose(arms: Sequence[Arm], rungs: Sequence[int], reduction_factor: float) -> int:
    """The index of the arm that gets the next trial; of equals the one with fewer trials, then the first.

    None is judged before each has as many trials as early stopping wants before it judges one, the reduction factor;
    and none falls behind an even share by more than that factor. It costs little, a late bloomer gets the trials in
    which to bloom, and the last on a leaderboard has had its try.
    """
    fewest = min(range(len(arms)), key=lambda index: arms[index].pulls)
    even = sum(arm.pulls for arm in arms) / len(arms)
    if arms[fewest].pulls < max(reduction_factor, even / reduction_factor):
        return fewest
    lead = leader(arms, rungs)
    values = [chance(arm, lead, rungs, reduction_factor) for arm in arms]
    return max(range(len(arms)), key=lambda index: (values[index], -arms[index].pulls, -index))


def leader(arms: Sequence[Arm], rungs: Sequence[int]) -> Arm:
    """The arm with the best score at the highest rung that any has reached."""
    for rung in reversed(rungs):
        reached = [(best, arm) for arm in arms if (best := arm.best(rung)) is not None and math.isfinite(best)]
        if reached:
            return max(reached, key=lambda pair: pair[0])[1]
    return arms[0]


def chance(arm: Arm, lead: Arm, rungs: Sequence[int], reduction_factor: float) -> float:
    """How likely the next trial of `arm` is the best of all, as seen at the highest rung that it shares with `lead`."""
    fresh = 1 / (arm.pulls + 1)
    for rung in reversed(rungs):
        best, to_beat = arm.best(rung), lead.best(rung)
        if best is None or to_beat is None:
            continue
        gap = max(to_beat - best, 0.0) if math.isfinite(to_beat) else 0.0
        if gap == 0:
            return fresh
        distances = [d for each in (arm, lead) for d in each.distances(rung, reduction_factor)]
        if math.isinf(gap):
            return fresh * 0.5 ** (len(distances) + 1)
        total = sum(distances) + gap
        return fresh * float((total / (total + gap)) ** (len(distances) + 1))
    return fresh
