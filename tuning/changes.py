"""What a resumed study may change, and how what is asked for differs from the study as it was started."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import search_spaces
from search_spaces import SearchSpace
from search_spaces.one_factor import OneFactor
from tuning.addresses import absolute_uri
from tuning.spec import HParams, StudySpec

Spaces = Mapping[str, SearchSpace]  # by architecture
BUDGETS = ("trials", "time_budget", "epoch_budget", "gpu_hours")
OF_A_RUN = ("address", "results_dir", "max_share")  # where a study runs and lies, not what it is


@dataclass(frozen=True)
class More:
    """A budget that is added to that of a study, such as `--trials +50`."""

    amount: float

    def __str__(self) -> str:
        return f"+{self.amount:g}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a resumed study changes, in words, and the values that it fixes no more, which its earlier trials had."""

    lines: tuple[str, ...]
    fixed: Mapping[str, Any]


def extend(
    spec: StudySpec, space: Spaces | OneFactor, fields: Mapping[str, Any], values: Mapping[str, Any],
    file: str | None,
) -> tuple[StudySpec, Spaces | OneFactor, Changes | None]:  # fmt: skip
    """A started study with the fields, hyperparameters and space file that `--resume` came with; None: no change.

    Raises:
        ValueError: something else than budgets and search space is to change.
    """
    others = {name: value for name, value in fields.items() if name not in (*BUDGETS, *OF_A_RUN)}
    if "model" in others:
        others["model"], *others["rivals"] = others["model"]
    if refused := differences(spec, others):
        raise ValueError(
            f"--resume {spec.name} can change budgets and the search space alone, not {'; '.join(refused)}; "
            "start another study for that, with another --name"
        )
    if isinstance(space, OneFactor) and ("trials" in fields or values or file):
        raise ValueError(
            f"{spec.name} is a one-factor study, whose trials and levels are given; start another, with another --name"
        )
    if spec.rivals and (values or file):
        raise ValueError(
            f"{spec.name} has several architectures, whose search spaces are given; start another, with another --name"
        )
    budgets = {name: _total(spec, name, fields[name]) for name in BUDGETS if name in fields}
    lines = differences(spec, budgets)
    places = {"address": fields["address"]} if "address" in fields else {}
    spec = dataclasses.replace(spec, **budgets, **places)
    if isinstance(space, OneFactor) or spec.rivals:
        return spec, space, Changes(lines=tuple(lines), fixed={}) if lines else None
    known = space[spec.model]
    changed = changed_space(known, values, file)
    lines += space_differences(known, changed)
    changes = Changes(lines=tuple(lines), fixed=_fixed_no_more(known, changed)) if lines else None
    return spec, {spec.model: changed}, changes


def differences(spec: StudySpec, asked: Mapping[str, Any]) -> list[str]:
    """A line for each field of a study for which another value is asked."""
    if datasets_or_paths := {name: asked[name] for name in ("dataset", "data_dir", "tracking_uri") if name in asked}:
        known = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
        moved = anchored(StudySpec(**{**known, **datasets_or_paths}))
        asked = {**asked, **{name: getattr(moved, name) for name in datasets_or_paths}}
    return [
        f"{name}: {_shown(getattr(spec, name))} in the study, {_shown(value)} asked for"
        for name, value in asked.items()
        if getattr(spec, name) != (tuple(value) if isinstance(value, list) else value)
    ]


def space_differences(space: SearchSpace, asked: SearchSpace) -> list[str]:
    """A line for each hyperparameter that is searched or fixed otherwise."""
    names = dict.fromkeys([*space.distributions, *space.fixed, *asked.distributions, *asked.fixed])
    return [
        f"{name}: {space.describe(name)} in the study, {asked.describe(name)} asked for"
        for name in names
        if space.describe(name) != asked.describe(name)
    ]


def anchored(spec: StudySpec) -> StudySpec:
    """The spec with absolute paths, so that a study can be resumed from any folder."""
    dataset = spec.dataset
    if dataset not in datasets.names() and Path(dataset).exists():
        dataset = datasets.anchored(dataset)
    return dataclasses.replace(
        spec,
        dataset=dataset,
        data_dir=datasets.anchored(spec.data_dir),
        results_dir=datasets.anchored(spec.results_dir),
        tracking_uri=absolute_uri(spec.tracking_uri),
    )


def _total(spec: StudySpec, name: str, value: Any) -> Any:
    if not isinstance(value, More):
        return value
    if getattr(spec, name) is None:
        raise ValueError(f"{name} {value}: the study {spec.name} has no {name} to add to; give the total")
    return getattr(spec, name) + value.amount


def changed_space(space: SearchSpace, values: Mapping[str, Any], file: str | None) -> SearchSpace:
    """A space with the changes of a space file, then those of --set."""
    if file:
        space = search_spaces.from_file(file, space)
    if values:
        from search_spaces.override import override

        for name, value in values.items():
            space = override(space, name, value)
    return space


def _fixed_no_more(space: SearchSpace, changed: SearchSpace) -> dict[str, Any]:
    """What every trial of `space` was trained with, and a trial of `changed` need not be: fixed values, defaults."""
    defaults, known = HParams(lr=1), {*space.distributions, *space.fixed}
    added = {name: getattr(defaults, name) for name in (*changed.distributions, *changed.fixed) if name not in known}
    missing = object()
    return added | {name: v for name, v in space.fixed.items() if changed.fixed.get(name, missing) != v}


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(value) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
