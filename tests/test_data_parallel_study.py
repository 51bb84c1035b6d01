"""Trials of two processes under Ray Tune: ASHA stops some, one loses a process and goes on, the finals train alike."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray import tune

import datasets
from cluster.resources import Cluster, Resources
from search_spaces import for_model
from tests.patience import until
from tuning.budget import Meter
from tuning.classifier import Format
from tuning.finals import Verdict, run_finals
from tuning.interrupt import Interrupt
from tuning.journal import Event, Journal
from tuning.record import Records, StudyLog
from tuning.scheduler import make_scheduler
from tuning.searcher import RungSearcher
from tuning.spec import METRIC, StudySpec
from tuning.storage import Storage
from tuning.trial import TrialSetup, run_trial
from tuning.trials import run_trials

pytestmark = pytest.mark.long

FIXED = {"schedule": "cosine", "augmentation": "none", "batch_size": 64}
# no GPU is asked of Ray, which has none here: that the trial's processes lie within it is what is tested
TRIAL = Resources(cpus=2)


class Killer:
    """Kills the second process of trial 0 after its second epoch, once."""

    def __init__(self) -> None:
        self.killed = 0

    def __call__(self, event: Event, records: Records) -> None:
        if event["event"] == "report" and event["trial"] == 0 and event["metrics"]["epoch"] == 2 and not self.killed:
            (member,) = members()
            os.kill(member, signal.SIGKILL)
            self.killed = member


def members() -> list[int]:
    """The process ids of the actors beside the trials' own processes, in the Ray that this process has started."""
    import psutil  # comes with Ray

    found = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    return [process.pid for process in found if "ray::Member" in " ".join(process.cmdline())]


@dataclass(frozen=True)
class Study:
    log: StudyLog
    events: list[Event]
    setup: TrialSetup
    killed: int


@pytest.fixture(scope="module")
def study(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder: Path = tmp_path_factory.mktemp("data_parallel")
    spec = StudySpec(
        model="resnet20", name="x", trials=4, epochs=4, grace_epochs=1, reduction_factor=2, audit=0, finals="1x2",
        gpus_per_trial=2,
    )  # fmt: skip
    storage = Storage(str(folder), "study")
    setup = TrialSetup(
        spec=spec,
        fixed=FIXED,
        splits=datasets.load("digits", root="unused", train_images=400),
        format=Format(),
        storage=storage,
        cpus=TRIAL.cpus,
        device="cpu",
        gpus=2.0,
    )
    events, killer = list[Event](), Killer()

    def note(event: Event, records: Records) -> None:
        events.append(event)

    log = StudyLog(Journal(folder / "journal.jsonl"), {}, Meter(), [note, killer])
    searcher = RungSearcher(
        {"lr": for_model("resnet20").distributions["lr"]}, metric=METRIC, mode="max", baseline={"lr": 0.1},
        conditions={}, rungs=spec.rungs, seed=0, sampler="random",
    )  # fmt: skip
    run_trials(
        tune.with_parameters(run_trial, setup=setup), searcher, make_scheduler(spec), spec=spec, log=log,
        storage=storage, remove=storage.remove, cluster=Cluster(nodes=(TRIAL,)), trial=TRIAL, concurrent=1, keep=3,
        interrupt=Interrupt(),
    )  # fmt: skip
    log.journal.close()
    return Study(log, events, setup, killer.killed)


def test_asha_stops_trials_of_two_processes(study: Study) -> None:
    outcomes = [record.outcome for record in study.log.records.values()]
    assert len(outcomes) == 4
    assert set(outcomes) == {"completed", "stopped"}
    batches = {metrics["micro_batch"] for record in study.log.records.values() for metrics in record.epochs}
    assert batches == {32}


def test_a_trial_that_lost_a_process_goes_on_from_its_last_state(study: Study) -> None:
    assert study.killed
    starts = [event for event in study.events if event["event"] == "start" and event["trial"] == 0]
    assert len(starts) == 2
    record = study.log.records[0]
    assert [metrics["epoch"] for metrics in record.epochs] == [1, 2, 3, 4]
    assert record.outcome == "completed"


def test_no_process_outlives_its_trial(study: Study) -> None:
    until(lambda: not members(), 30)  # Ray ends them when it comes to it


@pytest.fixture(scope="module")
def verdict(study: Study) -> Verdict:
    return next(iter(run_finals(study.setup, study.log.records, TRIAL, 1).values()))


def test_the_finals_train_with_as_many_processes(verdict: Verdict) -> None:
    assert len(verdict.winner.test_accuracies) == 2
    assert verdict.winner.test_accuracy > 0.5
    until(lambda: not members(), 30)  # Ray ends them when it comes to it
