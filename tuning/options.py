"""The command line: its flags, and how they become studies and search spaces."""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import datasets
import models
import search_spaces
from search_spaces import limits
from search_spaces.one_factor import OneFactor
from tuning.changes import BUDGETS, More, Spaces, changed_space
from tuning.spec import AUTO, StudySpec

FIELDS = {field.name: field for field in dataclasses.fields(StudySpec)}
UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}
SEARCH_ONLY = ("scheduler", "sampler", "grace_epochs", "reduction_factor", "objectives", "constraints", "warm_start")


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists all flags)\n")


def parser() -> argparse.ArgumentParser:
    """The flags of `python -m tuning.launch`; a default of None leaves the choice to StudySpec."""
    sets = f"{', '.join(datasets.names())}, or a folder of class folders"
    p = Parser(
        prog="python -m tuning.launch",
        description="Searches an image classifier's hyperparameters; ends with a checkpoint and an honest score.",
        epilog=f"python -m models lists the models; timm:NAME reaches those of timm. data sets: {sets}. "
        f"--set also reaches: {', '.join(sorted(_knobs()))}.",
        allow_abbrev=False,
    )
    p.add_argument(
        "--model", action="append", metavar="NAME", help="architecture; several share the trials between them"
    )
    p.add_argument(
        "--dataset",
        metavar="NAME|FOLDER",
        help=_help("dataset", "a known set, or a folder of class folders, also in s3://"),
    )
    p.add_argument(
        "--data-dir", metavar="DIR", help=_help("data_dir", "where data sets lie, also in s3://, or are downloaded to")
    )
    p.add_argument(
        "--trials", type=_count, metavar="N", help=_help("trials", "configurations to try, published recipes first")
    )
    p.add_argument("--epochs", type=int, metavar="N", help=_help("epochs", "full length of a training"))
    p.add_argument(
        "--time-budget", type=_seconds, metavar="TIME", help="end the search after this long, such as 90, 30m or 2h"
    )
    p.add_argument("--space", metavar="FILE", help="a YAML file that narrows, widens, fixes or adds "
                   "hyperparameters; or a one-factor study: a file, or a name such as augmentation")  # fmt: skip
    p.add_argument("--set", action="append", metavar="KEY=VALUE", default=[],
                   help="lr=0.01 fixes, lr=0.01:0.3:log searches, batch_size=32,64 chooses; "
                        "also any field of a study, such as image_size=64")  # fmt: skip
    p.add_argument("--name", help="of the study (default: model, data set and time)")
    p.add_argument("--seed", type=int, metavar="N", help=_help("seed", "root of all random choices"))
    p.add_argument("--finals", metavar="KxS", help=_help("finals", "train the K best again over S seeds; 1x1 does not"))
    p.add_argument("--cpus-per-trial", type=float, metavar="N", help=_help("cpus_per_trial", "CPUs of one trial"))
    p.add_argument(
        "--gpus-per-trial",
        type=_gpus,
        metavar="N",
        help="GPUs of one trial: a share of one; several of one node, on which it trains data-parallel; "
        "or auto: as many trials share one as do well (default: 1 if any)",
    )
    p.add_argument("--max-share", type=float, metavar="X", help=_help("max_share", "of the cluster, for all trials"))
    p.add_argument(
        "--address", metavar="ADDRESS", help=_help("address", "Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT")
    )
    p.add_argument("--tracking-uri", metavar="URI", help=_help("tracking_uri", "MLflow store or server"))
    p.add_argument("--results-dir", metavar="DIR", help=_help("results_dir", "where the folder of the study is made"))
    p.add_argument("--dry-run", action="store_true", help="show what would be done, start nothing")
    p.add_argument("--resume", metavar="NAME", help="go on with a study; --trials +50, --time-budget +30m, "
                   "--space FILE and --set lr=RANGE change its budget and space")  # fmt: skip
    return p


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, with what argparse cannot check checked."""
    p = parser()
    args = p.parse_args(argv)
    if not args.resume and not args.model and not args.space:
        p.error("--model is required, such as --model resnet18; python -m models lists all")
    return args


def request(args: argparse.Namespace) -> tuple[StudySpec, Spaces | OneFactor]:
    """The study, with the search space of each --model; or the one-factor study of --space.

    Raises:
        ValueError: naming the flag or field and what it may be.
    """
    given, values = asked(args)
    if added := [f"{name} {given[name]}" for name in BUDGETS if isinstance(given.get(name), More)]:
        raise ValueError(f"{added[0]} adds to a study that was started; give --resume NAME too")
    if one_factor := _one_factor(args, given, values):
        model = _model_of(one_factor, args)
        name = study_name(args, Path(args.space).stem)
        return StudySpec(**{**given, "model": model, "name": name, "scheduler": "none"}), one_factor
    if not args.model:
        raise ValueError(f"--model is required with {args.space}; python -m models lists all")
    if "seeds" in given:
        raise ValueError("--set seeds is for one-factor studies; --finals KxS trains the best again over S seeds")
    for model in args.model:
        models.architecture(model)  # before the name is made from it
    first, *rivals = args.model
    name = study_name(args, f"{len(args.model)}-architectures" if rivals else first)
    spec = StudySpec(**{**given, "model": first, "rivals": tuple(rivals), "name": name})
    return spec, {model: changed_space(search_spaces.for_model(model), values, args.space) for model in args.model}


def asked(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a study that flags and --set name, and what --set says of hyperparameters.

    Raises:
        ValueError: naming what --set does not know.
    """
    fields, values = _settings(args.set)
    return {name: getattr(args, name) for name in FIELDS if getattr(args, name, None) is not None} | fields, values


def _settings(texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What --set says: fields of the study, and values, lists or ranges of hyperparameters."""
    settings = [_split(text) for text in texts]
    if unknown := [key for key, _ in settings if key not in limits.LIMITS and key not in _knobs()]:
        known = f"fields {', '.join(sorted(_knobs()))}; hyperparameters {', '.join(limits.LIMITS)}"
        raise ValueError(f"--set {unknown[0]}: there is no such field or hyperparameter; {known}")
    fields = {key: _convert(key, text) for key, text in settings if key in _knobs()}
    hyperparameters = [(key, text) for key, text in settings if key in limits.LIMITS]
    if not hyperparameters:
        return fields, {}
    from search_spaces.override import parse as parse_value

    return fields, {key: parse_value(key, text) for key, text in hyperparameters}


def _one_factor(args: argparse.Namespace, given: Mapping[str, Any], values: Mapping[str, Any]) -> OneFactor | None:
    """The one-factor study of --space, if it is one, with the values of --set for all of its levels."""
    if not args.space:
        return None
    from search_spaces import one_factor

    path = one_factor.locate(args.space)
    if not path.exists():
        raise ValueError(f"there is no file {path}; one-factor studies by name: {', '.join(one_factor.names())}")
    if not one_factor.is_one_factor(path):
        return None
    for flag in ("trials", "finals"):
        if flag in given:
            raise ValueError(
                f"--{flag} does not go with {args.space}, which trains each level once a seed; --set seeds=N"
            )
    for key in SEARCH_ONLY:
        if key in given:
            raise ValueError(f"--set {key} is for searches; {args.space} trains all of its levels to the end")
    study = one_factor.read(path)
    for key, value in values.items():
        if isinstance(value, list | dict):
            raise ValueError(f"--set {key}: {args.space} compares levels, it searches no range; give one value")
        if varying := [name for name, level in study.levels.items() if key in level]:
            raise ValueError(f"--set {key}: {args.space} varies it itself, in {', '.join(varying)}")
    return dataclasses.replace(study, common={**study.common, **one_factor.checked(values)})


def _model_of(study: OneFactor, args: argparse.Namespace) -> str:
    """The architecture whose recipe all levels share: that of --model, else that of the file."""
    model = args.model[0] if args.model else study.model
    if model is None:
        raise ValueError(f"--model is required, because {args.space} names none; python -m models lists all")
    if args.model and len(args.model) > 1:
        raise ValueError(f"{args.space} takes one --model, got {', '.join(args.model)}")
    models.architecture(model)
    return str(model)


def study_name(args: argparse.Namespace, what: str) -> str:
    """That of --name, else one of what is tuned, the data set and the time."""
    if args.name:
        return str(args.name)
    dataset = datasets.title(args.dataset or str(FIELDS["dataset"].default))
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{what}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}")


def _knobs() -> set[str]:
    """The fields of a study that have no flag of their own."""
    flags = {
        "model",
        "rivals",
        "dataset",
        "data_dir",
        "trials",
        "epochs",
        "time_budget",
        "name",
        "seed",
        "finals",
        "cpus_per_trial",
    }
    flags |= {"gpus_per_trial", "max_share", "address", "tracking_uri", "results_dir"}
    return set(FIELDS) - flags


def _split(setting: str) -> tuple[str, str]:
    key, equals, text = setting.partition("=")
    if not equals or not key or not text:
        raise ValueError(f"--set {setting}: write KEY=VALUE, such as --set lr=0.01:0.3:log")
    return key, text


def _convert(key: str, text: str) -> Any:
    """`text` in the type of the field `key`."""
    hint = typing.get_type_hints(StudySpec)[key]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if bool in kinds:
        if text not in ("true", "false"):
            raise ValueError(f"--set {key} must be true or false, got {text!r}")
        return text == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return More(kind(text)) if key in BUDGETS and text.startswith("+") else kind(text)
            except ValueError:
                what = "a whole number" if kind is int else "a number"
                raise ValueError(f"--set {key} must be {what}, got {text!r}") from None
    return text


def _gpus(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number such as 1 or 0.5, or auto, got {text!r}") from None


def _count(text: str) -> int | More:
    try:
        return More(int(text)) if text.startswith("+") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number such as 40, or +40, got {text!r}") from None


def _seconds(text: str) -> float | More:
    match = re.fullmatch(r"(\+?)(\d+(?:\.\d+)?)\s*([a-z]*)", text)
    if not match or match[3] not in UNITS:
        raise argparse.ArgumentTypeError(f"must be a time such as 90, 30m or 2h, got {text!r}")
    seconds = float(match[2]) * UNITS[match[3]]
    return More(seconds) if match[1] else seconds


def _help(field: str, text: str) -> str:
    return f"{text} (default: {FIELDS[field].default})"
