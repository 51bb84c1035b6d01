"""A study's trials in Optuna's own storage, for Optuna's dashboard, plots and importance measures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces import contains
from tuning.journal import Event
from tuning.objectives import HIGHER_IS_BETTER, Objectives
from tuning.prepare import Prepared
from tuning.record import ENDED, Records, TrialRecord
from tuning.spec import METRIC, MODEL

OPTUNA_FILE = "optuna.log"
STATES = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}  # all others: FAIL


def open_study(folder: Path, name: str) -> optuna.Study:
    """The Optuna study of a results folder."""
    return optuna.load_study(study_name=name, storage=_storage(folder / OPTUNA_FILE))


def distributions(prepared: Prepared) -> dict[str, BaseDistribution]:
    """Those of all hyperparameters that are searched, by architecture where there are several."""
    if not prepared.architectures:
        return dict(prepared.space.distributions)
    parts = prepared.architectures.items()
    own = {f"{model}.{name}": d for model, part in parts for name, d in part.space.distributions.items()}
    return {MODEL: CategoricalDistribution(tuple(prepared.architectures)), **own}


class OptunaStudy:
    """Observes a study's events and adds each trial to `optuna.log` when it ends, in about a millisecond.

    The journal is the truth: the file is written anew when a study starts or is resumed, so that it is never torn and
    holds no trial twice. A file that cannot be written ends no study.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        distributions: Mapping[str, BaseDistribution],
        goals: Objectives = Objectives(),  # noqa: B008, it is frozen
    ) -> None:
        self.path, self.name, self.distributions, self.goals = folder / OPTUNA_FILE, name, dict(distributions), goals
        self._study: optuna.Study | None = None
        self._broken = False

    def __call__(self, event: Event, records: Records) -> None:
        if self._broken:
            return
        try:
            if self._study is None:
                self._study = self._rebuild([record for record in records.values() if record.outcome in ENDED])
            elif event["event"] == "end":
                self._study.add_trial(self._trial(records[event["trial"]]))
        except OSError as error:
            print(f"Optuna's copy {self.path} could not be written ({error}); --resume writes it anew")
            self._broken = True

    def _rebuild(self, ended: list[TrialRecord]) -> optuna.Study:
        new = self.path.with_name(f"{OPTUNA_FILE}.new")
        for path in (new, *(file.with_name(f"{file.name}.lock") for file in (new, self.path))):
            path.unlink(missing_ok=True)  # what a killed driver left; only one driver at a time gets here
        higher = [HIGHER_IS_BETTER[name] for name in self.goals.names]
        directions = [StudyDirection.MAXIMIZE if better else StudyDirection.MINIMIZE for better in higher]
        study = optuna.create_study(study_name=self.name, storage=_storage(new), directions=directions)
        for record in ended:
            study.add_trial(self._trial(record))
        new.replace(self.path)
        return open_study(self.path.parent, self.name)

    def _trial(self, record: TrialRecord) -> FrozenTrial:
        state = STATES.get(record.outcome, TrialState.FAIL)
        params = {_name(record, name): value for name, value in record.config.items()}
        known = self.distributions  # a value may lie outside of them where the study was resumed with another space
        params = {name: value for name, value in params.items() if name in known and contains(known[name], value)}
        best = record.best or {}
        trial = create_trial(
            state=state,
            values=None if state == TrialState.FAIL else [float(best[name]) for name in self.goals.names],
            params=params,
            distributions={name: self.distributions[name] for name in params},
            intermediate_values={metrics["epoch"]: float(metrics[METRIC]) for metrics in record.epochs},
            user_attrs={"trial": record.number, "outcome": record.outcome, "reason": record.reason},
        )
        trial.datetime_start = _time(record.started)
        trial.datetime_complete = _time(record.started if record.ended is None else record.ended)
        return trial


def _name(record: TrialRecord, name: str) -> str:
    """A hyperparameter's own, by architecture where there are several: their ranges differ."""
    return f"{record.model}.{name}" if record.model and name != MODEL else name


def _storage(path: Path) -> JournalStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path)))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone().replace(tzinfo=None)  # Optuna's are local and naive
