"""One-factor studies: a YAML file that names a few levels of one thing and leaves all else as it is.

The files beside this one, in `one_factor/`, ask the questions that papers answer for data sets of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces import limits
from search_spaces.override import entries, read_text

STUDY_KEYS = ("model", "dataset", "image_size")  # what a level may vary besides hyperparameters
DEFAULT_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class OneFactor:
    """Levels by name, each a few settings on top of `common`, which lies on top of the recipe of `model`."""

    question: str
    model: str | None
    levels: Mapping[str, Mapping[str, Any]]
    published: str = ""  # what is known of the answer, and from where
    common: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = DEFAULT_SEEDS

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise ValueError(f"levels needs at least two to compare, got {', '.join(self.levels) or 'none'}")

    def settings(self, level: str) -> dict[str, Any]:
        """What a level sets: hyperparameters and `STUDY_KEYS`."""
        return {**self.common, **self.levels[level]}


SHIPPED = Path(__file__).parent / "one_factor"


def locate(path: str | Path) -> Path:
    """The file of that path, or the study of that name among those that lie beside this module."""
    shipped = SHIPPED / f"{path}.yaml"
    if Path(path).exists() or not shipped.exists():
        return Path(path)
    return shipped


def names() -> list[str]:
    """The studies that lie beside this module."""
    return sorted(file.stem for file in SHIPPED.glob("*.yaml"))


def is_one_factor(path: str | Path) -> bool:
    """Whether a YAML file describes a one-factor study rather than a search space."""
    text = read_text(Path(path))
    return any(key in ("levels", "grid") for key, _, _ in entries(Path(path), text))


def read(path: str | Path) -> OneFactor:
    """The study of a YAML file.

    Raises:
        ValueError: naming file, line and key.
    """
    path = Path(path)
    fields: dict[str, Any] = {"question": path.stem.replace("_", " "), "model": None}
    for key, value, line in entries(path, read_text(path)):
        try:
            fields |= _field(key, value)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    try:
        return OneFactor(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _field(key: str, value: Any) -> dict[str, Any]:
    """One top-level key as arguments of `OneFactor`."""
    if key in ("question", "published", "model"):
        if not isinstance(value, str):
            raise ValueError(f"{key} must be text, got {value!r}")
        return {key: value}
    if key == "seeds":
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
            raise ValueError(f"seeds must be a whole number from 1 to 1,000, got {value!r}")
        return {key: value}
    if key == "common":
        return {key: checked(_mapping(key, value))}
    if key == "levels":
        levels = {str(name): settings or {} for name, settings in _mapping(key, value).items()}
        return {key: {name: checked(_mapping(f"level {name}", settings)) for name, settings in levels.items()}}
    if key == "grid":
        return {"levels": _product(_mapping(key, value))}
    known = "question, published, model, seeds, common, and levels or grid"
    raise ValueError(f"unknown key {key!r}; a one-factor study has {known}")


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in their proper types; a `ValueError` for what is neither a hyperparameter nor one of `STUDY_KEYS`."""
    for key in settings:
        if key not in limits.LIMITS and key not in STUDY_KEYS:
            known = f"{', '.join(STUDY_KEYS)}, {', '.join(limits.LIMITS)}"
            raise ValueError(f"unknown setting {key!r}; known: {known}")
    return {key: value if key in STUDY_KEYS else limits.check(key, value) for key, value in settings.items()}


def _product(grid: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All combinations of the values of each key, named by them."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid: {key} needs a list of values, got {values!r}")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return {", ".join(f"{key} {value}" for key, value in c.items()): checked(c) for c in combinations}


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be a mapping, got {value!r}")
    return value
