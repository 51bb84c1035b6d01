"""Six trials on digits for one model of each family, the recipe against the winner: `python -m benchmarks.families`."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FAMILIES = {  # a cheap member of each, the quickest first; the other settings of its study
    "resnet20": [],
    "se_resnet20": [],
    "densenet_40_12": [],
    "vgg11_bn_cifar": [],
    "mobilenet_v2": [],
    "efficientnet_b0": [],
    "vit_cifar": ["--set", "image_size=16"],
    "alexnet_cifar": [],
    "googlenet": [],
    "convnext_tiny": [],
    "swin_t": [],
}
BUDGET = ["--dataset", "digits", "--trials", "6", "--epochs", "4", "--finals", "1x3"]


def main() -> None:
    chosen = sys.argv[1:] or list(FAMILIES)
    print("| model | px | recipe: val, test % | winner: val, test % | trial | verdict | wall |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for model in chosen:
            print(row(model, Path(folder)), flush=True)


def row(model: str, folder: Path) -> str:
    """Runs the study of one model; a line of the table."""
    places = ["--results-dir", str(folder), "--tracking-uri", f"sqlite:///{folder}/mlflow.db", "--name", model]
    command = [sys.executable, "-m", "tuning.launch", "--model", model, *BUDGET, *FAMILIES.get(model, []), *places]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        return f"| {model} | exit {done.returncode}: {done.stderr.strip()} |"
    best = json.loads((folder / model / "best.json").read_text())
    scores = best["scores"]
    recipe = f"{_percent(scores['baseline_val_accuracy'])}, {_percent(scores['baseline_test_accuracy'])}"
    winner = f"{_percent(scores['val_accuracy'])}, {_percent(scores['test_accuracy'])}"
    size = best["build"]["image_size"]
    return f"| {model} | {size} | {recipe} | {winner} | {best['trial']} | {best['verdict']} | {seconds:.0f} s |"


def _percent(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.1f}"


if __name__ == "__main__":
    main()
