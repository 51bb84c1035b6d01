"""`study.json`: what a study was asked to do, with which data, code and versions, and the format that it chose."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution

from search_spaces import Condition, SearchSpace
from search_spaces.one_factor import OneFactor
from tuning.changes import Spaces, anchored
from tuning.checkpoint import write_json
from tuning.classifier import Format
from tuning.errors import DamagedStudy
from tuning.prepare import Prepared
from tuning.spec import StudySpec, from_json
from tuning.storage import STUDY_FILE, Storage, studies

Timed = tuple[Format, Mapping[Format, float]]  # a format, and images/s of all formats that were timed
PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def write(prepared: Prepared, formats: Mapping[str, Timed]) -> None:
    """Writes the description of a study about to search; `formats` are what each architecture is trained in."""
    if prepared.architectures:
        parts = {model: _part(part, formats[model]) for model, part in prepared.architectures.items()}
        description: dict[str, Any] = {"architectures": parts}
    else:
        description = _part(prepared, formats[prepared.spec.model])
    if prepared.one_factor:
        description["one_factor"] = dataclasses.asdict(prepared.one_factor)
    spec = dataclasses.asdict(anchored(prepared.spec))
    about = {"versions": versions(), "git_commit": git_commit()}
    write_json(prepared.folder / STUDY_FILE, {"spec": spec, **description, **about})


def read(storage: Storage) -> tuple[StudySpec, Spaces | OneFactor]:
    """Spec and search spaces of a study that was started, or the levels of a one-factor study, to resume it.

    Raises:
        ValueError: there is none.
        DamagedStudy: its description cannot be read.
    """
    storage.pull()
    path = storage.folder / STUDY_FILE
    if not path.exists():
        raise ValueError(
            f"no study to resume in {storage}; there are: {', '.join(studies(storage.results_dir)) or 'none'}"
        )
    try:
        known = json.loads(path.read_text())
        spec = from_json({**known["spec"], "results_dir": storage.results_dir})
        if "one_factor" in known:
            return spec, OneFactor(**known["one_factor"])
        return spec, {model: _space(part["space"]) for model, part in parts(known).items()}
    except (KeyError, json.JSONDecodeError) as error:
        raise DamagedStudy(f"{path} is damaged ({error}); restore it from a copy") from error


def read_formats(folder: Path) -> dict[str, Format]:
    """The format of each architecture that a study chose when it started; empty before that."""
    path = folder / STUDY_FILE
    if not path.exists():
        return {}
    return {model: Format(**part["format"]) for model, part in parts(json.loads(path.read_text())).items()}


def _part(prepared: Prepared, timed: Timed) -> dict[str, Any]:
    """What is known of one architecture: its space, its data, its format."""
    space, splits, (format, speeds) = prepared.space, prepared.splits, timed
    return {
        "space": _described(space),
        "data": {
            "classes": list(splits.classes),
            "train": len(splits.train),
            "val": len(splits.val),
            "image_size": splits.image_size,
            "sha256": splits.fingerprint,
        },
        "format": dataclasses.asdict(format),
        "images_per_second": {f"{f.precision} {f.memory_format}": round(speed, 1) for f, speed in speeds.items()},
        # a resume must not depend on other studies
        **({"warm_start": dataclasses.asdict(prepared.warm)} if prepared.warm else {}),
    }


def parts(known: Mapping[str, Any]) -> dict[str, Any]:
    """What `_part` wrote, by architecture."""
    found: dict[str, Any] = known.get("architectures") or {known["spec"]["model"]: known}
    return found


def change(prepared: Prepared, lines: Sequence[str]) -> None:
    """Writes what a resumed study is asked to do from now on, and keeps in words what that changes."""
    path = prepared.folder / STUDY_FILE
    known = json.loads(path.read_text())
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "changes": list(lines)}
    space = {} if prepared.architectures else {"space": _described(prepared.space)}
    history = [*known.get("history", []), entry]
    write_json(path, {**known, "spec": dataclasses.asdict(anchored(prepared.spec)), **space, "history": history})


def _described(space: SearchSpace) -> dict[str, Any]:
    return {
        "distributions": {name: distribution_to_json(d) for name, d in space.distributions.items()},
        "baseline": dict(space.baseline),
        "fixed": dict(space.fixed),
        "conditions": dict(space.conditions),
    }


def _space(known: Mapping[str, Any]) -> SearchSpace:
    return SearchSpace(
        distributions={name: json_to_distribution(text) for name, text in known["distributions"].items()},
        baseline=known["baseline"],
        fixed=known["fixed"],
        conditions={name: Condition(*condition) for name, condition in known["conditions"].items()},
    )


def versions() -> dict[str, str]:
    """Python and the packages that a result depends on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """The commit of the code that runs, marked where files differ from it; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
