"""Which failures end a trial: its own when it has more than one; the loss of a machine only if that never ends."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from cluster import nodes

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

ALLOWED = 1  # failures of its own that a trial is tried again after
IN_VAIN = 10  # losses without a new epoch: such a trial may be what takes its machines down


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The end of an attempt at a trial.

    `node` is where a worker process died, None if the trial itself raised; `cut_off` if its machine no longer answers.
    `epoch` is the last that it reported.
    """

    node: str | None = None
    cut_off: bool = False
    epoch: int = 0

    def own(self, staying: Set[str]) -> bool:
        """Whether it counts against the trial, given the machines that are there and will stay."""
        return not self.cut_off and (self.node is None or self.node in staying)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether a trial has ended with its last failure, and how it came to that if it has not."""

    ended: bool
    moved: bool  # its machine was lost

    @property
    def event(self) -> str:
        """How the journal calls another attempt."""
        return "moved" if self.moved else "again"


def judge(failures: Sequence[Failure], staying: Set[str]) -> Judgement:
    """What the failures of one trial so far, the newest last, come to.

    Earlier ones are judged anew: the end of a worker process may be told long before that of its machine.
    """
    own = [failure.own(staying) for failure in failures]
    given_up = own[-1] and sum(own) > ALLOWED
    return Judgement(ended=given_up or in_vain(failures) >= IN_VAIN, moved=not own[-1])


def in_vain(failures: Sequence[Failure]) -> int:
    """How many attempts there were since one came to an epoch that none before had reached."""
    furthest, count = -1, 0
    for failure in failures:
        count = 1 if failure.epoch > furthest else count + 1
        furthest = max(furthest, failure.epoch)
    return count


class Failures:
    """The failures of a study's trials, as Ray Tune tells of them."""

    def __init__(self) -> None:
        self.judgements: dict[str, Judgement] = {}  # the last one of each trial that has failed, by Ray's trial id
        self._known: dict[str, list[Failure]] = {}

    def add(self, trial: Trial) -> Judgement:
        """Takes over the failure that Ray Tune has just written down for the trial."""
        known = self._known.setdefault(trial.trial_id, [])
        known.append(_failure(trial))
        self.judgements[trial.trial_id] = judge(known, nodes.staying())
        return self.judgements[trial.trial_id]


def _failure(trial: Trial) -> Failure:
    epoch = int((trial.last_result or {}).get("epoch", 0))
    if trial.pickled_error_file is None:
        return Failure(epoch=epoch)
    error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    if isinstance(error, RayTaskError):
        error = error.as_instanceof_cause()
    if not isinstance(error, RayActorError) or error.actor_init_failed:
        return Failure(epoch=epoch)
    # a machine without power breaks connections seconds before Ray calls it dead; a process that dies is told at once
    cut_off = isinstance(error, ActorUnavailableError)
    return Failure(node=nodes.of_actor(error.actor_id), cut_off=cut_off, epoch=epoch)
