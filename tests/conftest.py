"""What all tests share: one local Ray, and a small study that a real run has produced."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cluster.session import apply_settings
from tuning.outcome import StudyResult
from tuning.spec import StudySpec

os.environ["RAY_AUTH_MODE"] = "disabled"  # the tests' Ray lives on loopback and for minutes
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
apply_settings()


@pytest.fixture(scope="session", autouse=True)
def _own_stores(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded images of this run alone, also in the processes that it starts."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Of torch in this process: on busy cores two threads would wait for each other most of the time."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A private Ray with two CPUs, whatever the machine has."""
    import ray

    ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Finished:
    """A study that was run, with what it was asked for."""

    spec: StudySpec
    result: StudyResult


@pytest.fixture(scope="session")
def finished(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Seven trials of resnet20 on digits."""
    from tuning.study import run_study

    folder: Path = tmp_path_factory.mktemp("finished")
    spec = StudySpec(
        model="resnet20",
        trials=7,
        epochs=3,
        name="finished",
        results_dir=str(folder / "results"),
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        precision="float32",
        memory_format="channels_last",
    )
    return Finished(spec, run_study(spec))
