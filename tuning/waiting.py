"""Tells what a study's trials wait for, where a cluster has no place for them yet."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from cluster import nodes
from cluster.resources import Cluster, Resources, waiting_line
from tuning.record import StudyLog

LOOK_SECONDS = 1.0  # between two looks at the cluster
PATIENCE_SECONDS = 2.0  # a trial waits for less wherever there is room


class Waiting(Callback):
    """Emits a `waiting` event whenever what is waited for changes, with an empty text when nothing is any more."""

    def __init__(self, log: StudyLog, trial: Resources, cluster: Cluster) -> None:
        self.log, self.trial, self.most = log, trial, cluster.most_nodes
        self._told, self._since, self._next = "", 0.0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that we never ask for

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        wanting = sum(trial.status == Trial.PENDING for trial in trials)
        waiting = min(wanting, nodes.pending(self.trial)) if wanting else 0
        if not waiting:
            self._since = 0.0
            self._tell("")
            return
        self._since = self._since or now
        if now - self._since >= PATIENCE_SECONDS:
            self._tell(waiting_line(waiting, self.trial, len(nodes.present().nodes), self.most))

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self.log.emit("waiting", what=line)
