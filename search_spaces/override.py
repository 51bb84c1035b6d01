"""Changes to a search space, written as `--set lr=0.01:0.3:log` or in a YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import Condition, SearchSpace, limits

MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Safe, and reads 1e-4 as the number that it is to everybody but YAML 1.1."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(name: str, text: str) -> Any:
    """The value of `--set NAME=TEXT` as `override` takes it: `0.1`, `0.01:0.3`, `0.01:0.3:log` or `a,b,c`."""
    if "," in text:
        return [_scalar(part) for part in text.split(",")]
    parts = text.split(":")
    if len(parts) == 1:
        return _scalar(text)
    if len(parts) == 2 or (len(parts) == 3 and parts[2] == "log"):
        return {"low": _scalar(parts[0]), "high": _scalar(parts[1]), "log": len(parts) == 3}
    raise ValueError(f"{name}={text} is no range; write LOW:HIGH or LOW:HIGH:log")


def override(space: SearchSpace, name: str, value: Any) -> SearchSpace:
    """`space` with one hyperparameter fixed (one value), chosen from a list, or searched in a range (a mapping)."""
    distributions, baseline, fixed = dict(space.distributions), dict(space.baseline), dict(space.fixed)
    conditions = dict(space.conditions)
    start = baseline.pop(name, fixed.pop(name, None))
    distributions.pop(name, None)
    if isinstance(value, Mapping):
        distributions[name] = _range(name, value)
        if "when" in value:
            conditions[name] = _condition(name, value["when"])
    elif isinstance(value, list):
        distributions[name] = _choices(name, value)
    else:
        fixed[name] = limits.check(name, value)
        conditions.pop(name, None)
    if name in distributions:
        baseline[name] = nearest(distributions[name], start)
    for child, (choice, wanted) in list(conditions.items()):
        if choice == name and wanted not in getattr(distributions.get(name), "choices", ()):
            del conditions[child]  # it is always searched now, or never
            if fixed.get(name) != wanted:
                del distributions[child], baseline[child]
    return SearchSpace(distributions=distributions, baseline=baseline, fixed=fixed, conditions=conditions)


def read_file(path: Path, base: SearchSpace) -> SearchSpace:
    """See `search_spaces.from_file`."""
    space = base
    for key, value, line in entries(path, read_text(path)):
        try:
            space = override(space, key, value)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    return space


def read_text(path: Path) -> str:
    """The content of a space file; a `ValueError` if it cannot be read or cannot be one."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the space file {path}: {error}") from error
    if len(text) > MAX_BYTES:
        raise ValueError(f"the space file {path} has {len(text):,} characters; a space needs a few dozen lines")
    return text


def entries(path: Path, text: str) -> list[tuple[str, Any, int]]:
    """The top-level keys of a YAML mapping, each with its value and line; anchors and tags are refused."""
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError(f"{path} uses YAML aliases; write the values out")
        root = yaml.compose(text, _Loader)
        values = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode) or not all(isinstance(key, str) for key in values):
        raise ValueError(
            f"{path} must be a mapping of hyperparameters, such as `lr: {{low: 0.01, high: 0.3, log: true}}`"
        )
    keys = [key.value for key, _ in root.value]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{path} has {', '.join(repeated)} more than once")
    return [(key.value, values[key.value], key.start_mark.line + 1) for key, _ in root.value]


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _range(name: str, value: Mapping[str, Any]) -> BaseDistribution:
    limit = limits.LIMITS.get(name)
    if isinstance(limit, limits.Choice):
        raise ValueError(f"{name} has no range; choose among {', '.join(limit.values)}")
    if not {"low", "high"} <= set(value) <= {"low", "high", "log", "when"}:
        given = ", ".join(map(str, value)) or "nothing"
        raise ValueError(f"{name} needs low and high, and may have log and when; got {given}")
    low, high, log = limits.check(name, value["low"]), limits.check(name, value["high"]), value.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{name}: log must be true or false, got {log!r}")
    if not low < high:
        raise ValueError(f"{name} needs low below high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"{name}: a log range needs low above 0, got {low}")
    return IntDistribution(low, high, log=log) if isinstance(low, int) else FloatDistribution(low, high, log=log)


def _condition(name: str, when: Any) -> Condition:
    if not isinstance(when, Mapping) or len(when) != 1:
        raise ValueError(f"{name}: when must name one choice and its value, such as {{optimizer: sgd}}, got {when!r}")
    ((choice, value),) = when.items()
    return Condition(choice, limits.check(choice, value))


def _choices(name: str, values: list[Any]) -> BaseDistribution:
    checked = tuple(limits.check(name, value) for value in values)
    if len(set(checked)) != len(checked) or len(checked) < 2:
        raise ValueError(f"{name} needs at least two different choices, got {values}")
    return CategoricalDistribution(checked)


def nearest(distribution: BaseDistribution, start: Any) -> Any:
    """`start` where it fits, else the nearest value that does; the middle where it is None."""
    if isinstance(distribution, CategoricalDistribution):
        return start if start in distribution.choices else distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if start is None:
        start = (low * high) ** 0.5 if distribution.log else (low + high) / 2
    nearest = min(max(start, low), high)
    return int(nearest) if isinstance(distribution, IntDistribution) else nearest
