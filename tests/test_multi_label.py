"""Images of several labels, from the file on disk to the verdict: all are learned, judged by average precision."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from datasets import Splits, in_memory
from tuning.classifier import predict
from tuning.loader import Loader
from tuning.prepare import prepare
from tuning.scores import mean_average_precision
from tuning.spec import HParams, StudySpec
from tuning.study import run
from tuning.training import Training

CLASSES = ("left", "right", "top")
SIZE = 8


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar at the left, the right or the top for each label; a tenth of the labels do not count."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 3)) < 0.4).astype(np.int64)
    pixels = generator.integers(0, 80, (count, 3, SIZE, SIZE)).astype(np.uint8)
    for image, (left, right, top) in zip(pixels, labels, strict=True):
        image[:, :, :2] += np.uint8(120 * left)
        image[:, :, -2:] += np.uint8(120 * right)
        image[:, :2] += np.uint8(50 * top)
    labels[generator.random((count, 3)) < 0.1] = -1
    return pixels, labels


@pytest.fixture(scope="module")
def splits() -> Splits:
    parts = [in_memory(*drawn(count, seed)) for seed, count in enumerate((600, 200, 200))]
    train, val, test = parts
    return Splits("bars", train, val, CLASSES, (0.2,) * 3, (0.2,) * 3, lambda: test, task="multi")


RECIPES = [
    {},
    {"mixup": 0.2, "label_smoothing": 0.1},
    {"cutmix": 0.5, "erasing": 0.2},
    {"ema_decay": 0.9, "policy": "trivial_augment"},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "+".join(recipe) or "plain")
def test_every_label_is_learned_and_judged(splits: Splits, recipe: dict[str, float]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))
    hparams = HParams(lr=0.05, batch_size=20, augmentation="none", **recipe)  # type: ignore[arg-type]
    run_ = Training(network, hparams, splits, epochs=4, seed=0)
    first, *_, last = run_.run()
    assert last.val_loss < first.val_loss
    assert last.val_accuracy > 0.9
    logits, labels = predict(run_.evaluated, Loader(splits.val, "cpu"), run_.format)
    assert last.val_accuracy == mean_average_precision(logits, labels)


def write_table(folder: Path, count: int = 300) -> Path:
    pixels, labels = drawn(count)
    with open(folder / "bars.csv", "w", newline="") as file:
        for index, (image, row) in enumerate(zip(pixels, labels, strict=True)):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{index}.png")
            names = [name for name, label in zip(CLASSES, row, strict=True) if label == 1]
            csv.writer(file).writerow([f"{index}.png", *names])
    return folder / "bars.csv"


def test_a_study_of_a_table_ends_in_average_precision(ray_session: None, tmp_path: Path) -> None:
    spec = StudySpec(
        model="resnet20", dataset=str(write_table(tmp_path)), trials=2, epochs=2, name="bars", precision="float32",
        memory_format="contiguous", results_dir=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
    )  # fmt: skip
    prepared = prepare(spec)
    assert (prepared.splits.task, prepared.splits.classes) == ("multi", CLASSES)
    result = run(prepared)
    assert result.score == "mean average precision"
    assert 0 < result.test_accuracy <= 1
    report = (tmp_path / "bars" / "report.html").read_text()
    assert f"Test mean average precision {100 * result.test_accuracy:.2f} %" in report
    assert "accuracy" not in report.replace("training accuracy", "")
    assert json.loads((tmp_path / "bars" / "best.json").read_text())["task"] == "multi"
