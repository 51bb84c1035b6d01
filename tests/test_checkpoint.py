"""Checkpoints come back as they were, or are refused."""

import random
from pathlib import Path

import pytest
import torch

from tuning import checkpoint

TENSORS = {
    "weights": torch.arange(12.0).view(3, 4).t(),  # not contiguous
    "count": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "empty": torch.zeros(0),
}
META = {"epoch": 3, "val_losses": [0.1, 1e-17, 2.5]}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.safetensors"
    checkpoint.save(path, TENSORS, META)
    tensors, meta = checkpoint.load(path)
    assert meta == META
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert [p.name for p in path.parent.iterdir()] == ["state.safetensors"], "nothing is left aside"


def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, {"weights": torch.randn(50)}, META)
    content = path.read_bytes()
    data_start = len(content) - 200
    for offset in random.Random(0).sample(range(data_start, len(content)), 100):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 4]) + content[offset + 1 :])
        with pytest.raises(checkpoint.Damaged, match="checksum"):
            checkpoint.load(path)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, TENSORS, META)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(checkpoint.Damaged, match="is damaged"):
        checkpoint.load(path)


def test_saving_again_replaces(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    for epoch in (1, 2):
        checkpoint.save(path, {"x": torch.tensor(epoch)}, {"epoch": epoch})
    assert checkpoint.load(path)[1] == {"epoch": 2}
