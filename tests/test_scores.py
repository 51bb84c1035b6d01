"""Losses and scores against values by hand, and against scikit-learn where it computes the same."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import Tensor

from tuning.scores import (
    as_targets,
    average_precision,
    hits,
    loss_of,
    mean_average_precision,
    score_of,
    standard_error,
)


def area(found: list[int]) -> float:
    """Of images in descending order of score, 1 where the class is."""
    scores = torch.arange(len(found), 0, -1).float()
    return average_precision(scores, torch.tensor(found) == 1)


def test_average_precision_by_hand() -> None:
    # Precisions 1/1, 1/2, 2/3, 2/4, 3/5 at recalls 1/3, 1/3, 2/3, 2/3, 1: at recall 2/3 the highest from there is 2/3.
    assert area([1, 0, 1, 0, 1]) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # 0/1, 1/2, 2/3, 3/4: what comes later lifts what is before.
    assert area([0, 1, 1, 1]) == pytest.approx(3 / 4)
    assert area([1, 1, 0, 0]) == 1.0
    assert area([0, 0, 0, 1]) == pytest.approx(1 / 4)


def test_equal_scores_are_one_step() -> None:
    for positive in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert average_precision(torch.zeros(4), torch.tensor(positive) == 1) == pytest.approx(1 / 4)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40).filter(
        lambda x: any(b for _, b in x)
    )
)
@settings(max_examples=200)
def test_average_precision_is_that_of_the_curve_without_dents(images: list[tuple[int, bool]]) -> None:
    """Above scikit-learn's, which does not fill the dents, and equal where there are none."""
    scores, positive = torch.tensor([float(s) for s, _ in images]), torch.tensor([b for _, b in images])
    ours = average_precision(scores, positive)
    thresholds = sorted(set(scores.tolist()), reverse=True)
    points = [((scores >= t) & positive).sum().item() / (scores >= t).sum().item() for t in thresholds]
    recalls = [((scores >= t) & positive).sum().item() / positive.sum().item() for t in thresholds]
    expected = sum(
        max(points[i:]) * (recall - before)
        for i, (recall, before) in enumerate(zip(recalls, [0, *recalls], strict=False))
    )
    assert ours == pytest.approx(expected)
    theirs = average_precision_score(positive.numpy(), scores.numpy())
    assert ours >= theirs - 1e-9
    if points == sorted(points, reverse=True):
        assert ours == pytest.approx(theirs)


def test_mean_average_precision_leaves_out_difficult_images_and_absent_classes() -> None:
    scores = torch.tensor([[3.0, 1.0, 5.0], [2.0, 3.0, 4.0], [1.0, 2.0, 3.0]])
    labels = torch.tensor([[-1, 0, 0], [1, 1, 0], [0, 1, 0]])
    # The first class counts images 1 and 2 alone: 1. The second ranks 1, 2, 0: 1. The third is nowhere.
    assert mean_average_precision(scores, labels) == 1.0
    assert mean_average_precision(scores, torch.tensor([[0, 0, 0], [1, 1, 0], [0, 1, 0]])) == pytest.approx(
        (0.5 + 1) / 2
    )
    assert mean_average_precision(scores, torch.zeros(3, 3, dtype=torch.int64)) == 0.0


def test_a_right_answer_is_the_label_or_one_of_the_labels() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert hits(logits, torch.tensor([2, 1])).tolist() == [True, False]
    assert hits(logits, torch.tensor([1, 1]), k=2).tolist() == [True, True]
    assert hits(logits, torch.tensor([0, 2]), k=5).tolist() == [True, True]
    assert hits(logits, torch.tensor([[1, 0, 1], [-1, 1, 0]])).tolist() == [True, False]
    assert hits(logits, torch.tensor([[0, 1, 0], [0, 1, 0]]), k=2).tolist() == [True, True]


def test_the_loss_of_several_labels_is_the_mean_over_what_is_known() -> None:
    logits, labels = torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[1, -1, 0]])
    expected = (math.log(2) + math.log(1 + math.exp(-1))) / 2
    assert loss_of(logits, as_targets(labels, 3), "multi", 0.0).item() == pytest.approx(expected)
    smoothed = (math.log(2) + 0.95 * math.log(1 + math.exp(-1)) + 0.05 * math.log(1 + math.exp(1))) / 2
    assert loss_of(logits, as_targets(labels, 3), "multi", 0.1).item() == pytest.approx(smoothed)


def test_what_is_not_counted_has_no_gradient() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss_of(logits, as_targets(torch.tensor([[1, -1, 0], [-1, -1, -1]]), 3), "multi", 0.1).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert ((logits.grad != 0) == torch.tensor([[True, False, True], [False, False, False]])).all()


def test_the_loss_of_one_label_is_cross_entropy() -> None:
    logits, labels = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([0, 1])
    expected = (math.log(1 + math.e) + math.log(1 + math.exp(-3))) / 2
    assert loss_of(logits, labels, "single", 0.0).item() == pytest.approx(expected)
    assert loss_of(logits, as_targets(labels, 2), "single", 0.0).item() == pytest.approx(expected)


def noisy(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 4)) < 0.3).astype(np.int64)
    return torch.from_numpy(labels + generator.normal(0, 0.7, labels.shape)), torch.from_numpy(labels)


def test_the_standard_error_is_the_spread_over_other_images() -> None:
    """Against the truth: the deviation of the score over many fresh sets of images."""
    estimate = standard_error(*noisy(300, 0))
    truth = float(np.std([score_of(*noisy(300, seed)) for seed in range(1, 120)]))
    assert estimate == pytest.approx(truth, rel=0.3)
    logits, labels = torch.eye(4).repeat(25, 1), torch.arange(4).repeat(25)
    labels[:10] = 3 - labels[:10]
    assert score_of(logits, labels) == 0.9
    assert standard_error(logits, labels) == pytest.approx(0.03)
