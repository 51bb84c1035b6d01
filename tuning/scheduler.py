"""Early stopping: ASHA and the median rule, with a reason for each decision, and how Ray Tune is told of it."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Protocol

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.failures import Failures
from tuning.objectives import RANKED, Objectives, Score, leading
from tuning.seeds import derive_seed
from tuning.spec import METRIC, MODEL, StudySpec

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

Z_SCORE = 1.0  # standard errors of two validation scores that count as noise


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a trial goes on, and why; `audited` if it does so only to show what stopping it would have cost."""

    go_on: bool
    reason: str
    audited: bool = False


class Rule(Protocol):
    """Early stopping as arithmetic on scores: higher is better, NaN is below everything."""

    def decide(
        self, key: object, epoch: int, score: Score, *, exempt: bool = False, group: str = ""
    ) -> Decision | None:
        """Records the score of the trial `key`; None where there is nothing to decide. An exempt trial goes on.

        Trials are compared with those of their own group only.
        """


@dataclass(kw_only=True)
class Rungs:
    """ASHA (Li et al. 2018, arXiv:1810.05934): at each rung a trial goes on if it is among the best of all so far.

    Nobody is cut before there are as many scores as the reduction factor: one of fewer cannot be told to be weak.
    Trials of bracket b are first compared at rung b, and with their own kind only; brackets get equal shares of the
    epochs, as in Hyperband (Li et al. 2018, JMLR 18). `noise(score)` is what a score may owe to luck: nobody is cut by
    less. Several objectives are ranked by front and crowding.
    """

    epochs: Sequence[int]
    reduction_factor: float
    brackets: int = 1
    seed: int = 0
    noise: Callable[[float], float] = lambda score: 0.0
    goals: Objectives = Objectives()  # noqa: RUF009, it is frozen
    scores: dict[int, dict[object, Score]] = field(init=False)

    def __post_init__(self) -> None:
        self.scores = {epoch: {} for epoch in self.epochs[:-1]}
        self._weights = bracket_weights(self.epochs, self.reduction_factor, self.brackets)
        self._peers: dict[tuple[str, int, int], list[Any]] = {}  # scores of a group's bracket at an epoch

    def decide(
        self, key: object, epoch: int, score: Score, *, exempt: bool = False, group: str = ""
    ) -> Decision | None:
        if math.isnan(leading(score)):
            return Decision(go_on=False, reason=f"diverged in epoch {epoch}")
        rung = self.scores.get(epoch)
        if rung is None or key in rung or epoch < self.epochs[bracket := self.bracket(key)]:
            return None
        rung[key] = score
        ranked, own = self._rank(score, (group, bracket, epoch))
        total = len(ranked)
        cut_off = ranked[-math.ceil(total / self.reduction_factor)]
        place = f"rank {1 + total - bisect_right(ranked, own)} of {total}"
        shown = f"{score:.3f}" if isinstance(score, float) else self.goals.describe(score)
        if exempt or total < self.reduction_factor or own >= cut_off:
            return Decision(go_on=True, reason=f"{shown} at epoch {epoch}, {place}")
        below = f"below the cut-off {cut_off:.3f}, {place}" if self.goals.plain else place
        if self.goals.plain and cut_off - own <= self.noise(own):
            reason = f"{shown} at epoch {epoch}, {place}, within noise of the cut-off {cut_off:.3f}"
            return Decision(go_on=True, reason=reason)
        return Decision(
            go_on=False, reason=f"stopped at epoch {epoch}: {shown}{' ' if self.goals.plain else ', '}{below}"
        )

    def _rank(self, score: Score, peers: tuple[str, int, int]) -> tuple[list[float], float]:
        """The merits of the peers so far, ascending, and that of the newest; of several objectives the last peers'."""
        known = self._peers.setdefault(peers, [])
        if isinstance(score, float):
            insort(known, score)
            return known, score
        known.append(score)
        del known[:-RANKED]
        merits = self.goals.merits(known)
        return sorted(merits), merits[-1]

    def bracket(self, key: object) -> int:
        """Drawn from the trial's number, so that a study that goes on after a crash draws the same."""
        left = draw(self.seed, "bracket", key) * sum(self._weights)
        for bracket, weight in enumerate(self._weights):
            left -= weight
            if left < 0:
                return bracket
        return len(self._weights) - 1

    def __str__(self) -> str:
        return f"ASHA with rungs at epochs {', '.join(map(str, self.scores)) or 'none'}"


@dataclass(kw_only=True)
class MedianRule:
    """Stops a trial whose best score is below the median of the others' averages so far (Golovin et al. 2017, Vizier).

    From the first of `epochs` on, and not before `fewest` others have come as far.
    """

    epochs: Sequence[int]
    fewest: int
    scores: dict[str, dict[object, list[float]]] = field(default_factory=dict)  # of each group's trials

    def decide(
        self, key: object, epoch: int, score: Score, *, exempt: bool = False, group: str = ""
    ) -> Decision | None:
        assert isinstance(score, float)  # one objective
        if math.isnan(leading(score)):
            return Decision(go_on=False, reason=f"diverged in epoch {epoch}")
        known = self.scores.setdefault(group, {})
        own = known.setdefault(key, [])
        if len(own) >= epoch:
            return None
        own.append(score)
        if epoch < self.epochs[0] or epoch >= self.epochs[-1]:
            return None
        peers = [scores for other, scores in known.items() if other != key and len(scores) >= epoch]
        others = [mean(scores[:epoch]) for scores in peers]
        if exempt or len(others) < self.fewest or max(own) >= median(others):
            return None
        cut_off = f"{median(others):.3f} of {len(others)} others"
        return Decision(go_on=False, reason=f"stopped at epoch {epoch}: {max(own):.3f} below the median {cut_off}")

    def __str__(self) -> str:
        return f"the median rule from epoch {self.epochs[0]} on"


class RungScheduler(FIFOScheduler):
    """A `Rule` behind Ray Tune's interface. Results carry `epoch` and the number `trial`; those in `exempt` go on.

    Trials of several architectures are compared with their own kind: one that learns slowly at first may end best, and
    which of them get more trials is decided elsewhere.

    A share `audit` of the trials that the rule would stop is told to finish, to show what stopping them would have
    cost; they are exempt from then on.
    """

    def __init__(
        self,
        rule: Rule,
        metric: str,
        *,
        audit: float = 0.0,
        seed: int = 0,
        exempt: Collection[object] = (),
        goals: Objectives = Objectives(),  # noqa: B008, it is frozen
    ) -> None:
        super().__init__()
        self.rule, self.audit, self.seed, self.exempt = rule, audit, seed, frozenset(exempt)
        self.decisions: dict[object, Decision] = {}
        self.failures = Failures()
        self.audited: set[object] = set()
        self._metric, self._goals = metric, goals

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return metric in (None, self._metric) and mode in (None, "max")

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Ray Tune, which would try for ever, adds a trial again after a failure; one that has failed ends here."""
        if trial.run_metadata.error_filename and self.failures.add(trial).ended:
            tune_controller.search_alg.on_trial_complete(trial.trial_id, error=True)
            tune_controller.stop_trial(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        key = result.get("trial", trial.trial_id)
        decision = self.decide(key, result["epoch"], self.score(result), group=trial.config.get(MODEL, ""))
        if decision is None:
            return str(TrialScheduler.CONTINUE)
        self.decisions[key] = decision
        return str(TrialScheduler.CONTINUE if decision.go_on else TrialScheduler.STOP)

    def score(self, result: Mapping[str, Any]) -> Score:
        """What a result is compared by."""
        return float(result[self._metric]) if self._goals.plain else self._goals.of(result)

    def decide(self, key: object, epoch: int, score: Score, *, group: str = "") -> Decision | None:
        """The rule's decision, unless the trial is exempt or the rule is audited."""
        exempt = key in self.exempt or key in self.audited
        decision = self.rule.decide(key, epoch, score, exempt=exempt, group=group)
        if decision is None or decision.go_on or math.isnan(leading(score)) or not self._audits(key):
            return decision
        self.audited.add(key)
        return replace(decision, go_on=True, audited=True, reason=f"audited, else {decision.reason}")

    def replay(self, key: object, epoch: int, score: Score, *, group: str = "") -> None:
        """Takes over a report of an earlier run, whose decision has been made."""
        self.rule.decide(key, epoch, score, exempt=True, group=group)

    def debug_string(self) -> str:
        return str(self.rule)

    def _audits(self, key: object) -> bool:
        return isinstance(key, int) and draw(self.seed, "audit", key) < self.audit


def make_scheduler(spec: StudySpec, *, val_images: int | None = None) -> RungScheduler:
    """The scheduler that `spec.scheduler` names; `val_images` is what scores are measured on, for `spare_noise`."""
    if spec.scheduler == "median":
        rule: Rule = MedianRule(epochs=spec.rungs, fewest=math.ceil(spec.reduction_factor))
    else:
        epochs = spec.rungs if spec.scheduler != "none" else spec.rungs[-1:]
        rule = Rungs(
            epochs=epochs,
            reduction_factor=spec.reduction_factor,
            brackets=len(epochs) if spec.scheduler == "hyperband" else min(spec.brackets, len(epochs)),
            seed=spec.seed,
            noise=noise_of(val_images) if spec.spare_noise and val_images else lambda score: 0.0,
            goals=spec.goals,
        )
    return RungScheduler(rule, METRIC, audit=spec.audit, seed=spec.seed, exempt=spec.recipes, goals=spec.goals)


def noise_of(images: int) -> Callable[[float], float]:
    """The standard error of the difference of two accuracies near a score, each of them over `images` images."""
    return lambda score: Z_SCORE * math.sqrt(2 * max(score * (1 - score), 0.0) / images)


def bracket_weights(epochs: Sequence[int], reduction_factor: float, brackets: int) -> list[float]:
    """How many trials each bracket gets, so that all train about as many epochs: the inverse of what a trial costs."""
    costs = []
    for bracket in range(brackets):
        rungs = epochs[bracket:]
        lengths = [rung - before for rung, before in zip(rungs, (0, *rungs), strict=False)]
        costs.append(sum(length / reduction_factor**rung for rung, length in enumerate(lengths)))
    return [1 / cost for cost in costs]


def draw(*keys: object) -> float:
    """A number in [0, 1) that follows from the keys."""
    return derive_seed(*keys, bits=56) / 2**56
