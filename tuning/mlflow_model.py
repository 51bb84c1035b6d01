"""The winner as an MLflow model: raw uint8 images in, logits out, loadable without this project's code."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from torch import nn

from tuning.export import DESCRIPTION, WEIGHTS, load_best
from tuning.front import FRONT_FILE
from tuning.leaderboard import LEADERBOARD_FILE, markdown
from tuning.outcome import StudyResult
from tuning.report import REPORT
from tuning.tracking import Tracker


def publish(tracker: Tracker, result: StudyResult) -> int:
    """Logs the winner on the study's run and ends it; gives how many runs MLflow does not know all of."""
    try:
        note = _note(result, _log_winner(tracker, result))
    except (MlflowException, OSError) as error:  # the winner's files are written, MLflow is not worth losing the result
        print(f"MLflow: {error}")  # goes to the study's log file
        return 1 + tracker.close("FAILED")
    return tracker.close("FINISHED", note)


def _log_winner(tracker: Tracker, result: StudyResult) -> str:
    """Logs model, scores and files; gives the model's address."""
    model, description = load_best(result.folder)
    build = description["build"]
    # two images: an example of one would freeze the batch size
    example = np.zeros((2, build["in_channels"], build["image_size"], build["image_size"]), np.uint8)
    scores = {"best_val_accuracy": result.val_accuracy, "test_accuracy": result.test_accuracy}
    if result.baseline_val_accuracy is not None and result.baseline_test_accuracy is not None:
        scores["baseline_val_accuracy"] = result.baseline_val_accuracy
        scores["baseline_test_accuracy"] = result.baseline_test_accuracy
    for each in result.architectures:
        if each.test_accuracy is not None:
            scores[f"test_accuracy/{each.model}"] = each.test_accuracy
    files = [DESCRIPTION, WEIGHTS, REPORT]
    files += [LEADERBOARD_FILE] if result.architectures else []
    files += [FRONT_FILE] if result.front else []
    mlflow.set_tracking_uri(tracker.uri)
    with mlflow.start_run(run_id=tracker.parent_id):
        info = log_model(model, example, result.name.replace(".", "-"))
        mlflow.log_metrics(scores, step=0, model_id=info.model_id)
        if result.audit:
            mlflow.log_metrics(result.audit.metrics, step=0)
        for name in files:
            mlflow.log_artifact(str(Path(result.folder) / name))
    return str(info.model_uri)


def log_model(
    model: nn.Module, example: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], name: str
) -> mlflow.models.model.ModelInfo:
    """Logs a classifier as an exported program, which holds no pickle, on the active run."""
    with torch.inference_mode():
        logits = model(torch.from_numpy(example)).numpy()
    return mlflow.pytorch.log_model(
        model.to(memory_format=torch.contiguous_format),
        name=name,
        input_example=example,
        signature=mlflow.models.infer_signature(example, logits),
        # what serving needs; found by itself MLflow would import everything in a new process
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "torch", "numpy")],
    )


def _note(result: StudyResult, model_uri: str) -> str:
    leaderboard = f"{markdown(result.architectures)}\n" if result.architectures else ""
    searched = "\n".join(f"| {name} | {value} |" for name, value in result.config.items())
    return (
        f"**{result.model} on {result.dataset}**: test {result.score} {result.test_accuracy:.4f} "
        f"(trial {result.trial}); {result.verdict}.\n\n"
        f"Load the winner: `mlflow.pytorch.load_model('{model_uri}')`; it takes raw uint8 images (B, C, H, W).\n\n"
        f"{leaderboard}"
        f"| hyperparameter | winner |\n| --- | --- |\n{searched}\n"
    )
