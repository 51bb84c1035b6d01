"""Everything about a study that can be checked, and shown by --dry-run, before anything is started."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import models
import search_spaces
from cluster.resources import Cluster, Resources, concurrency, per_trial
from cluster.session import check_address, local_resources
from datasets import Splits
from datasets.object_store import is_address
from search_spaces import SearchSpace
from search_spaces.one_factor import STUDY_KEYS, OneFactor
from tuning.addresses import check_tracking
from tuning.changes import OF_A_RUN, Changes, Spaces, anchored, differences, space_differences
from tuning.errors import DamagedStudy, NoResources
from tuning.spec import HParams, StudySpec, model_options
from tuning.storage import STUDY_FILE, Storage, check_reachable

if TYPE_CHECKING:
    from tuning.warm_start import WarmStart


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study that passed every check that needs no cluster.

    A one-factor study has its levels prepared too, a study of several architectures has each of them; `space` and
    `splits` are then the first's.
    """

    spec: StudySpec
    space: SearchSpace
    splits: Splits
    one_factor: OneFactor | None = None
    levels: Mapping[str, Prepared] = field(default_factory=dict)
    warm: WarmStart | None = None  # what earlier studies taught, where the spec asks for it; each architecture's own
    architectures: Mapping[str, Prepared] = field(default_factory=dict)
    changes: Changes | None = None  # of a resumed study

    @property
    def storage(self) -> Storage:
        return storage_of(self.spec)

    @property
    def folder(self) -> Path:
        """The study's, on this machine."""
        return self.storage.folder

    def shared(self) -> dict[str, Any]:
        """The settings that all levels of a one-factor study have in common."""
        first, *others = (level.settings() for level in self.levels.values())
        return {key: value for key, value in first.items() if all((key, value) in other.items() for other in others)}

    def notes(self) -> list[str]:
        """What the user should know of how the data was read, and of what the search starts from."""
        studies = [*self.levels.values(), *self.architectures.values()] or [self]
        notes = [note for study in studies for note in study.splits.notes]
        return list(dict.fromkeys([*notes, *(n for study in studies if study.warm for n in study.warm.notes())]))

    def fixed(self) -> dict[str, Any]:
        """The hyperparameters that are not searched, by architecture where there are several."""
        if not self.architectures:
            return dict(self.space.fixed)
        return {f"{m}.{name}": v for m, part in self.architectures.items() for name, v in part.space.fixed.items()}

    def settings(self) -> dict[str, Any]:
        """What the trainings of a level are made of."""
        return {"model": self.spec.model, "image_size": self.splits.image_size, **self.space.fixed}


def storage_of(spec: StudySpec) -> Storage:
    """Where a study keeps its files."""
    return Storage(datasets.anchored(spec.results_dir), spec.name)


def prepare(spec: StudySpec, space: SearchSpace | Spaces | None = None, *, resume: bool = False) -> Prepared:
    """Loads the data, and checks that all parts of the request fit together and can be had.

    `space` is the search space, by architecture if there are several; by default those of `search_spaces`.

    Raises:
        ValueError: they do not fit, or the data is not what it should be.
        ConnectionError: the data could not be downloaded, or Ray or MLflow does not answer.
        NoResources: this machine has not what one trial asks for.
    """
    given = {spec.model: space} if isinstance(space, SearchSpace) else space or {}
    spaces = {model: given.get(model) or search_spaces.for_model(model) for model in spec.architectures}
    _check_places(spec, spaces, resume)
    loaded: dict[tuple[object, ...], Splits] = {}
    parts = {}
    for model, own in spaces.items():
        part = dataclasses.replace(spec, model=model, rivals=())
        warm = _warm_start(part, own, resume) if spec.warm_start else None
        parts[model] = dataclasses.replace(_fit(part, own, _load_once(part, loaded)), warm=warm)
    first = parts[spec.model]
    return dataclasses.replace(first, spec=spec, architectures=parts) if spec.rivals else first


def prepare_one_factor(spec: StudySpec, one_factor: OneFactor, *, resume: bool = False) -> Prepared:
    """`prepare` for a study of levels, on one copy of the data where they share it.

    Raises:
        ValueError, ConnectionError, NoResources: as `prepare`, naming the level where one of them is to blame.
    """
    _check_places(spec, one_factor, resume)
    loaded: dict[tuple[object, ...], Splits] = {}
    levels: dict[str, Prepared] = {}
    for name in one_factor.levels:
        try:
            level_spec, space = _level(spec, one_factor.settings(name))
            levels[name] = _fit(level_spec, space, _load_once(level_spec, loaded))
        except ValueError as error:
            raise ValueError(f"level {name!r}: {error}") from error
    seeds = spec.seeds or one_factor.seeds
    spec = dataclasses.replace(spec, seeds=seeds, trials=len(levels) * seeds)
    first = next(iter(levels.values()))
    return Prepared(spec=spec, space=first.space, splits=first.splits, one_factor=one_factor, levels=levels)


def _warm_start(spec: StudySpec, space: SearchSpace, resume: bool) -> WarmStart:
    from tuning import warm_start  # imports Optuna

    if resume:
        return warm_start.recall(storage_of(spec), spec.model)
    return warm_start.gather(spec, space)


def load(spec: StudySpec) -> Splits:
    """The data of a study at a size that its architecture can take."""
    if spec.image_size is not None:
        models.check(spec.model, image_size=spec.image_size)  # before all images are brought to it
    return datasets.load(
        spec.dataset,
        root=spec.data_dir,
        seed=spec.seed,
        image_size=spec.image_size,
        fit=models.architecture(spec.model).fitting_size,
        val_fraction=spec.val_fraction,
        train_images=spec.train_images,
        store_share=spec.store_share,
    )


def _load_once(spec: StudySpec, loaded: dict[tuple[object, ...], Splits]) -> Splits:
    """The data of one of several studies, a copy for all that take images of the same size."""
    entry = models.architecture(spec.model)
    key = (spec.dataset, spec.image_size, entry.min_size, entry.multiple)
    if key not in loaded:
        splits = load(spec)
        wanted = (spec.dataset, splits.image_size)
        loaded[key] = next((s for (data, *_), s in loaded.items() if (data, s.image_size) == wanted), splits)
    return loaded[key]


def _check_places(spec: StudySpec, space: Spaces | OneFactor, resume: bool) -> None:
    """That Ray and MLflow answer, the folder is free and this machine takes a trial."""
    check_address(spec.address)
    check_tracking(spec.tracking_uri)
    _check_results(datasets.anchored(spec.results_dir))
    if not resume:
        _check_name(spec, space)
    if spec.address == "local":
        slots(spec, Cluster(nodes=(local_resources(),)))


def _fit(spec: StudySpec, space: SearchSpace, splits: Splits) -> Prepared:
    """That architecture, search space and data go together."""
    options = model_options({**space.distributions, **space.recipe})
    models.check(spec.model, image_size=splits.image_size, in_channels=splits.channels, options=options)
    HParams(**space.recipe)
    largest = batch_range(space)[1]
    if largest > len(splits.train):
        raise ValueError(
            f"batch_size goes up to {largest}, but {splits.name} has {len(splits.train)} training images; "
            f"lower it, such as --set batch_size={max(len(splits.train) // 8, 2)}"
        )
    gpus = spec.gpus_per_trial if isinstance(spec.gpus_per_trial, int | float) else 1
    if (smallest := batch_range(space)[0]) < 2 * gpus > 2:
        raise ValueError(
            f"batch_size may be {smallest}, which leaves some of {gpus:g} GPUs fewer than 2 images; "
            f"raise it, such as --set batch_size={32 * int(gpus)}, or lower --gpus-per-trial"
        )
    return Prepared(spec=spec, space=space, splits=splits)


def _level(spec: StudySpec, settings: Mapping[str, Any]) -> tuple[StudySpec, SearchSpace]:
    """The study of one level: the recipe of the study's own model, less the options that the level's model lacks."""
    changed = {key: value for key, value in settings.items() if key in STUDY_KEYS}
    values = {key: value for key, value in settings.items() if key not in STUDY_KEYS}
    level_spec = dataclasses.replace(spec, **changed)
    recipe = search_spaces.for_model(spec.model).recipe
    known = models.architecture(level_spec.model).options
    lacking = {name for name in model_options(recipe) if name not in known}
    if "aux" in lacking:
        lacking.add("aux_weight")
    kept = {name: value for name, value in recipe.items() if name not in lacking}
    return level_spec, SearchSpace(distributions={}, baseline={}, fixed={**kept, **values})


def slots(spec: StudySpec, cluster: Cluster) -> tuple[int, Resources]:
    """How many trials run at once on `cluster` at its largest, and what each of them gets.

    Raises:
        NoResources: not even one fits.
    """
    gpus = None if isinstance(spec.gpus_per_trial, str) else spec.gpus_per_trial  # a probe tells what it is to be
    trial = per_trial(cluster, spec.cpus_per_trial, gpus)
    count = concurrency(cluster, trial, spec.trials, spec.max_share)
    if count == 0:
        raise NoResources(
            f"a trial asks for {trial} on one node, all that could be had is {cluster}; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
    if "gpu_memory_mb" in spec.goals.costs and not trial.gpus:
        raise NoResources(f"gpu_memory_mb can only be measured where trials have a GPU, and a trial gets {trial}")
    if spec.gpu_hours is not None and not trial.gpus:
        raise NoResources("gpu_hours counts GPUs, but there are none; take epoch_budget or --time-budget")
    return count, trial


def _check_results(place: str) -> None:
    if is_address(place):
        check_reachable(place)
        return
    results = Path(place)
    existing = next(path for path in (results, *results.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"results_dir {results}: cannot write to {existing}; choose another --results-dir")


def _check_name(spec: StudySpec, space: Spaces | OneFactor) -> None:
    """That there is no such study yet; names what is asked otherwise than there."""
    storage = storage_of(spec)
    if not storage.exists(STUDY_FILE):
        if storage.remote and (storage.folder / STUDY_FILE).exists():
            raise ValueError(
                f"there is no study {spec.name!r} in {storage.results_dir}, but one in {storage.folder} that has not "
                f"come there: send it with --resume {spec.name}, delete that folder, or choose another --name"
            )
        return
    from tuning import study_file  # imports torch

    lines: list[str] = []
    try:
        started, started_space = study_file.read(storage)
        given = {name: value for name, value in dataclasses.asdict(anchored(spec)).items() if name not in OF_A_RUN}
        if isinstance(space, OneFactor):  # its trials and seeds may follow from its levels
            given = {name: value for name, value in given.items() if name not in ("trials", "seeds")}
        lines = differences(started, given)
        if not isinstance(space, OneFactor) and not isinstance(started_space, OneFactor):
            both = [model for model in space if model in started_space]
            lines += [line for model in both for line in space_differences(started_space[model], space[model])]
    except (DamagedStudy, ValueError):  # of no use to say what differs; --resume tells what is wrong
        pass
    but = f", which differs ({'; '.join(lines)})" if lines else ""
    raise ValueError(
        f"there is a study {spec.name!r} in {storage.results_dir}{but}; go on with --resume {spec.name}, "
        "or choose another --name"
    )


def batch_range(space: SearchSpace) -> tuple[int, int]:
    """The smallest and the largest batch that any configuration asks for."""
    distribution = space.distributions.get("batch_size")
    if distribution is None:
        fixed = int(space.recipe.get("batch_size", HParams(lr=1).batch_size))
        return fixed, fixed
    sizes = getattr(distribution, "choices", [getattr(distribution, bound, 0) for bound in ("low", "high")])
    return int(min(sizes)), int(max(sizes))
