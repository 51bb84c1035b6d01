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
from tuning.changes import anchored
from tuning.checkpoint import write_json
from tuning.errors import DamagedStudy
from tuning.prepare import STUDY_FILE, Prepared
from tuning.spec import StudySpec, from_json
from tuning.training import Format

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def write(prepared: Prepared, format: Format, speeds: Mapping[Format, float]) -> None:
    """Writes the description of a study about to search; `speeds` are images/s of the formats that were timed."""
    splits = prepared.splits
    description = {
        **_asked(prepared),
        "data": {
            "classes": list(splits.classes),
            "train": len(splits.train),
            "val": len(splits.val),
            "image_size": splits.image_size,
            "sha256": splits.fingerprint,
        },
        "format": dataclasses.asdict(format),
        "images_per_second": {f"{f.precision} {f.memory_format}": round(speed, 1) for f, speed in speeds.items()},
        "versions": versions(),
        "git_commit": git_commit(),
    }
    if prepared.one_factor:
        description["one_factor"] = dataclasses.asdict(prepared.one_factor)
    write_json(prepared.folder / STUDY_FILE, description)


def change(prepared: Prepared, lines: Sequence[str]) -> None:
    """Writes what a resumed study is asked to do from now on, and keeps in words what that changes."""
    path = prepared.folder / STUDY_FILE
    known = json.loads(path.read_text())
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "changes": list(lines)}
    write_json(path, {**known, **_asked(prepared), "history": [*known.get("history", []), entry]})


def _asked(prepared: Prepared) -> dict[str, Any]:
    space = prepared.space
    return {
        "spec": dataclasses.asdict(anchored(prepared.spec)),
        "space": {
            "distributions": {name: distribution_to_json(d) for name, d in space.distributions.items()},
            "baseline": dict(space.baseline),
            "fixed": dict(space.fixed),
            "conditions": dict(space.conditions),
        },
    }


def read(folder: Path) -> tuple[StudySpec, SearchSpace | OneFactor]:
    """Spec and space of a study that was started, or the levels of a one-factor study, to resume it.

    Raises:
        ValueError: there is none.
        DamagedStudy: its description cannot be read.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        started = sorted(p.parent.name for p in folder.parent.glob(f"*/{STUDY_FILE}"))
        raise ValueError(f"no study to resume in {folder}; there are: {', '.join(started) or 'none'}")
    try:
        known = json.loads(path.read_text())
        spec = from_json({**known["spec"], "results_dir": str(folder.parent)})
        if "one_factor" in known:
            return spec, OneFactor(**known["one_factor"])
        space = known["space"]
        return spec, SearchSpace(
            distributions={name: json_to_distribution(text) for name, text in space["distributions"].items()},
            baseline=space["baseline"],
            fixed=space["fixed"],
            conditions={name: Condition(*condition) for name, condition in space["conditions"].items()},
        )
    except (KeyError, json.JSONDecodeError) as error:
        raise DamagedStudy(f"{path} is damaged ({error}); restore it from a copy") from error


def read_format(folder: Path) -> Format | None:
    """The format that a study chose when it started; None before that."""
    path = folder / STUDY_FILE
    return Format(**json.loads(path.read_text())["format"]) if path.exists() else None


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
