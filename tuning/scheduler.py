"""ASHA: at each rung a trial goes on only if it is among the best of all that came so far (arXiv:1810.05934)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.spec import METRIC, StudySpec

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a trial goes on, and why."""

    go_on: bool
    reason: str


class Rungs:
    """The scores of all trials at each rung. Higher is better; NaN is below everything."""

    def __init__(self, epochs: Sequence[int], reduction_factor: float) -> None:
        self.scores: dict[int, dict[object, float]] = {epoch: {} for epoch in epochs[:-1]}
        self.reduction_factor = reduction_factor

    def decide(self, key: object, epoch: int, score: float, *, exempt: bool = False) -> Decision | None:
        """Records the score of the trial `key`; None where there is no rung at `epoch`, or `key` has passed it before.

        Nobody is cut before there are as many scores as the reduction factor: one of fewer cannot be told to be weak.
        """
        if math.isnan(score):
            return Decision(go_on=False, reason=f"diverged in epoch {epoch}")
        rung = self.scores.get(epoch)
        if rung is None or key in rung:
            return None
        rung[key] = score
        ranked = sorted(rung.values(), reverse=True)
        kept = math.ceil(len(ranked) / self.reduction_factor)
        rank, cut_off = 1 + ranked.index(score), ranked[kept - 1]
        place = f"rank {rank} of {len(ranked)}"
        if exempt or len(ranked) < self.reduction_factor or score >= cut_off:
            return Decision(go_on=True, reason=f"{score:.3f} at epoch {epoch}, {place}")
        return Decision(
            go_on=False,
            reason=f"stopped at epoch {epoch}: {score:.3f} below the cut-off {cut_off:.3f}, {place}",
        )


class RungScheduler(FIFOScheduler):
    """`Rungs` behind Ray Tune's interface. Results carry `epoch` and the number `trial`; those in `exempt` go on."""

    def __init__(self, rungs: Rungs, metric: str, exempt: Collection[object]) -> None:
        super().__init__()
        self.rungs = rungs
        self.decisions: dict[object, Decision] = {}
        self._metric = metric
        self._exempt = frozenset(exempt)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return metric in (None, self._metric) and mode in (None, "max")

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        key = result.get("trial", trial.trial_id)
        decision = self.rungs.decide(key, result["epoch"], result[self._metric], exempt=key in self._exempt)
        if decision is None:
            return str(TrialScheduler.CONTINUE)
        self.decisions[key] = decision
        return str(TrialScheduler.CONTINUE if decision.go_on else TrialScheduler.STOP)

    def debug_string(self) -> str:
        return f"ASHA with rungs at epochs {', '.join(map(str, self.rungs.scores))}"


def make_scheduler(spec: StudySpec) -> RungScheduler:
    """The scheduler that `spec.scheduler` names; without early stopping the last epoch is the only rung."""
    epochs = spec.rungs if spec.scheduler == "asha" else spec.rungs[-1:]
    return RungScheduler(Rungs(epochs, spec.reduction_factor), METRIC, spec.recipes)
