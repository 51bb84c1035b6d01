"""Everything about a study that can be checked, and shown by --dry-run, before anything is started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import datasets
import models
import search_spaces
from cluster.resources import Resources, concurrency, per_trial
from cluster.session import check_address, local_resources
from datasets import Splits
from search_spaces import SearchSpace
from tuning.addresses import check_tracking
from tuning.errors import NoResources
from tuning.spec import HParams, StudySpec, model_options

STUDY_FILE = "study.json"  # a folder is a study's from when this lies in it: before, nothing was searched


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study that passed every check that needs no cluster."""

    spec: StudySpec
    space: SearchSpace
    splits: Splits

    @property
    def folder(self) -> Path:
        return Path(self.spec.results_dir).absolute() / self.spec.name


def prepare(spec: StudySpec, space: SearchSpace | None = None, *, resume: bool = False) -> Prepared:
    """Loads the data and checks that all parts of the request fit together and can be had.

    Raises:
        ValueError: they do not fit, or the data is not what it should be.
        ConnectionError: the data could not be downloaded, or Ray or MLflow does not answer.
        NoResources: this machine has not what one trial asks for.
    """
    check_address(spec.address)
    check_tracking(spec.tracking_uri)
    _check_folder(Path(spec.results_dir).absolute(), spec.name, resume)
    if spec.address == "local":
        slots(spec, local_resources())
    space = space or search_spaces.for_model(spec.model)
    models.check(
        spec.model, image_size=spec.image_size or 2048, options=model_options({**space.distributions, **space.recipe})
    )
    splits = datasets.load(
        spec.dataset,
        root=spec.data_dir,
        seed=spec.seed,
        image_size=spec.image_size,
        smallest=models.architecture(spec.model).min_size,
        val_fraction=spec.val_fraction,
    )
    HParams(**space.recipe)
    largest = _largest("batch_size", space)
    if largest > len(splits.train):
        raise ValueError(
            f"batch_size goes up to {largest}, but {splits.name} has {len(splits.train)} training images; "
            f"lower it, such as --set batch_size={max(len(splits.train) // 8, 2)}"
        )
    return Prepared(spec=spec, space=space, splits=splits)


def slots(spec: StudySpec, cluster: Resources) -> tuple[int, Resources]:
    """How many trials run at once on `cluster`, and what each of them gets.

    Raises:
        NoResources: not even one fits.
    """
    trial = per_trial(cluster, spec.cpus_per_trial, spec.gpus_per_trial)
    count = concurrency(cluster, trial, spec.trials)
    if count == 0:
        raise NoResources(f"a trial asks for {trial}, there are {cluster}; lower --cpus-per-trial or --gpus-per-trial")
    return count, trial


def _check_folder(results: Path, name: str, resume: bool) -> None:
    existing = next(path for path in (results, *results.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"results_dir {results}: cannot write to {existing}; choose another --results-dir")
    if not resume and (results / name / STUDY_FILE).exists():
        raise ValueError(
            f"there is a study {name!r} in {results}; go on with --resume {name}, or choose another --name"
        )


def _largest(name: str, space: SearchSpace) -> int:
    distribution = space.distributions.get(name)
    if distribution is None:
        return int(space.recipe.get(name, HParams(lr=1).batch_size))
    return int(max(getattr(distribution, "choices", [getattr(distribution, "high", 0)])))
