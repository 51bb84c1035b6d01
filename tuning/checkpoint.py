"""Checkpoints without pickle: one safetensors file, written aside and moved into place, with its own checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


class Damaged(Exception):
    """A checkpoint cannot be trusted."""


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes tensors and JSON so that a crash leaves either the old file or the new one."""
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = {"meta": json.dumps(meta), "sha256": digest(plain)}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(plain, aside, header)
    replace_durably(aside, path)


def load(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON of a checkpoint.

    Raises:
        Damaged: the file is not complete, or not what was written.
        FileNotFoundError: there is none.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if header["sha256"] != digest(tensors):
            raise Damaged(f"{path} is damaged: its checksum does not match; delete it")
        return tensors, json.loads(header["meta"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise Damaged(f"{path} is damaged ({error}); delete it") from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON so that a crash leaves either the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(value, indent=2) + "\n")
    replace_durably(aside, path)


def replace_durably(aside: Path, path: Path) -> None:
    """Moves a finished file into place, its content being on the disk before its name is."""
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
