"""A Ray Tune searcher that hands out a list of configurations, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher


class GridSearcher(Searcher):
    """`configs` are those that are left to run, by trial number."""

    def __init__(self, configs: Mapping[int, dict[str, Any]], *, metric: str, mode: str) -> None:
        super().__init__(metric=metric, mode=mode)
        self.numbers: dict[str, int] = {}  # Ray's trial id -> our trial number
        self._left = sorted(configs.items(), reverse=True)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return metric in (None, self.metric) and mode in (None, self.mode)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if not self._left:
            return str(Searcher.FINISHED)
        self.numbers[trial_id], config = self._left.pop()
        return dict(config)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn from."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal tells which configurations are left."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from its journal, not from Ray Tune's snapshots")
