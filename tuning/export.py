"""The winner as two files: `best.safetensors` and `best.json`, enough to rebuild the model without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

import models
from tuning.checkpoint import Damaged, replace_durably, write_json
from tuning.classifier import Format, Normalised

WEIGHTS, DESCRIPTION = "best.safetensors", "best.json"


def write_best(folder: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Writes both files; `description` needs model, build, mean and std, and whatever else is worth keeping."""
    aside = folder / f".{WEIGHTS}"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, aside)
    replace_durably(aside, folder / WEIGHTS)
    write_json(folder / DESCRIPTION, {**description, "weights_sha256": _sha256(folder / WEIGHTS)})


def load_best(folder: str | Path) -> tuple[Normalised, dict[str, Any]]:
    """The winner of a study's folder, a classifier of raw uint8 images in evaluation mode, and its description.

    Raises:
        Damaged: the weights are not those that the description was written for.
    """
    folder = Path(folder)
    description = json.loads((folder / DESCRIPTION).read_text())
    if _sha256(folder / WEIGHTS) != description["weights_sha256"]:
        raise Damaged(f"{folder / WEIGHTS} is not the file that {DESCRIPTION} describes; restore both from a copy")
    model = rebuild(description, load_file(folder / WEIGHTS))
    return model, description


def rebuild(description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Normalised:
    """The classifier that `description` describes, with `weights`."""
    network = models.build(description["model"], **description["build"])
    network.load_state_dict(dict(weights))
    model = Normalised(network, tuple(description["mean"]), tuple(description["std"]))
    return model.to(memory_format=Format(**description["format"]).layout).eval()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
