"""Several architectures side by side, under the same data, seeds and budget: what each reached, and at what price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEADERBOARD_FILE = "leaderboard.json"
TITLES = ("architecture", "validation", "test", "against the first", "recipe's test", "trials", "epochs")


@dataclass(frozen=True, kw_only=True)
class ArchitectureResult:
    """One architecture. Accuracies are shares in [0, 1], None where nothing trained; the test set was read once."""

    model: str
    image_size: int
    trials: int  # that were spent on it
    epochs: int  # of all of them
    trial: int | None = None  # the number of its winner
    config: Mapping[str, Any] | None = None  # of its winner, fixed values included
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    baseline_val_accuracy: float | None = None  # of its published recipe
    baseline_test_accuracy: float | None = None
    verdict: str = "nothing trained"  # its winner against its published recipe
    gain: float | None = None  # in test accuracy over the winner of the first architecture
    margin: float | None = None  # half of the 95 % interval of the gain


def rows(architectures: Sequence[ArchitectureResult]) -> list[list[str]]:
    """A line of text cells for each architecture, under `TITLES`."""
    return [
        [each.model, percent(each.val_accuracy), percent(each.test_accuracy), _against(each),
         percent(each.baseline_test_accuracy), str(each.trials), str(each.epochs)]
        for each in architectures
    ]  # fmt: skip


def percent(accuracy: float | None) -> str:
    """A share as people write it; `-` where there is none."""
    return "-" if accuracy is None else f"{100 * accuracy:.2f} %"


def markdown(architectures: Sequence[ArchitectureResult]) -> str:
    """The table for MLflow's description."""
    lines = [TITLES, ["---"] * len(TITLES), *rows(architectures)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _against(each: ArchitectureResult) -> str:
    if each.gain is None or each.margin is None:
        return ""
    tie = "" if abs(each.gain) > each.margin else ", a tie"
    return f"{100 * each.gain:+.2f} +- {100 * each.margin:.2f}{tie}"
