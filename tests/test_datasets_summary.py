"""What is told of a data set: counts, equal images, the noise of a score, and the lines made of them."""

import itertools
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import datasets
from datasets import Images, Splits, description, summary
from datasets.source import Labels, Listed, Packed, Pixels, Source
from datasets.stream import Streamed


def images(values: list[int], labels: list[int] | NDArray[np.int64], side: int = 4) -> Images:
    """Flat gray images of these values."""
    pixels = np.repeat(np.array(values, np.uint8), side * side).reshape(-1, 1, side, side)
    return datasets.in_memory(pixels, np.array(labels, np.int64))


def splits(train: Images, val: Images, test: Images, classes: int, **fields: object) -> Splits:
    names = tuple(f"class{number}" for number in range(classes))
    return Splits("made", train, val, names, (0.25,), (0.125,), lambda: test, **fields)  # type: ignore[arg-type]


def no_images() -> tuple[Pixels, Labels]:
    return np.zeros((0, 4, 4), np.uint8), np.zeros(0, np.int64)


def packed_source(classes: int) -> Source:
    none = Packed(files=(), read=partial(no_images))
    return Source(train=none, test=none, classes=("a",) * classes, native_size=8)


def test_the_noise_is_that_of_a_share() -> None:
    assert summary.noise(500) == pytest.approx(1.96 * math.sqrt(0.9 * 0.1 / 500))
    assert f"{100 * summary.noise(500):.1f}" == "2.6"
    assert summary.noise(400, accuracy=0.5) == pytest.approx(0.049)
    drawn = np.random.default_rng(0).binomial(500, 0.9, 100_000) / 500
    assert np.mean(np.abs(drawn - 0.9) <= summary.noise(500)) == pytest.approx(0.95, abs=0.01)


def test_classes_and_labels_are_counted() -> None:
    assert summary.class_counts(np.array([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]
    several = np.array([[1, 1, 0], [0, 1, -1], [0, 0, -1]])
    assert summary.class_counts(several, 3).tolist() == [1, 2, 0]
    assert summary.labels_per_image(several) == {0: 1, 1: 1, 2: 1}


def test_images_of_different_classes_come_first() -> None:
    labels = np.array([2, 2, 0, 2, 0, 1])
    assert summary.of_different_classes(labels, 4).tolist() == [2, 5, 0, 4]
    assert summary.of_different_classes(labels, 99).tolist() == [2, 5, 0, 4, 1, 3]
    several = np.array([[1, 1], [1, 0], [1, 0], [0, 0]])
    assert summary.of_different_classes(several, 3).tolist() == [1, 0, 3]  # the second class is the rarer one


FEW = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=8)  # values and labels


@given(FEW, FEW, FEW)
def test_repeats_are_those_of_a_search_by_hand(
    train: list[tuple[int, int]], val: list[tuple[int, int]], test: list[tuple[int, int]]
) -> None:
    content = {"train": train, "val": val, "test": test}
    parts = {which: images([v for v, _ in pairs], [c for _, c in pairs]) for which, pairs in content.items()}
    expected = []
    for earlier, later in itertools.combinations_with_replacement(content, 2):
        if earlier == later != "train":
            continue
        pairs = []
        for place, (value, _) in enumerate(content[later]):
            before = [i for i, (v, _) in enumerate(content[earlier]) if v == value and (earlier != later or i < place)]
            pairs += [(before[0], place)] if before else []
        if pairs:
            changed = sum(content[earlier][left][1] != content[later][right][1] for left, right in pairs)
            expected.append((earlier, later, len(pairs), changed, pairs[0]))
    assert [(r.earlier, r.later, r.count, r.relabelled, r.example) for r in summary.repeats(parts)] == expected


def test_hashes_follow_the_order_of_the_rows_over_chunks() -> None:
    side = 512  # 64 images of it fill a chunk
    many = images([*range(150), 3], [0] * 151, side)
    assert many.images.nbytes > 2 * summary.CHUNK
    hashes = list(summary.image_hashes(many.take(np.arange(150, -1, -1))))
    assert len(set(hashes)) == 150
    assert hashes[0] == hashes[147]


def test_labels_that_do_not_count_are_told() -> None:
    labels = np.array([[1, 0], [-1, 1], [-1, -1]])
    part = images([1, 2, 3], labels)
    lines = description.lines(splits(part, part, part, 2, task="multi"), packed_source(2), Path())
    assert lines["labels"] == [
        "0.67 per image: 3 with 0, 6 with 1",
        "9 hard to tell: neither right nor wrong, they do not count",
    ]


def test_images_of_packed_files_are_told_by_their_number() -> None:
    both = images([7, 8, 9, 8, 9], [0, 1, 0, 1, 1])
    made = splits(both.take(np.array([0, 1, 2])), both.take(np.array([3, 4])), images([1, 7], [0, 1]), 2)
    lines = description.lines(made, packed_source(2), Path())
    assert lines["duplicates"] == [
        "2 of 2 validation images equal a training image to the pixel, 1 with another label",
        "   such as number 1 of the training file and number 3 of the training file",
        "1 of 2 test images equal a training image to the pixel, 1 with another label",
        "   such as number 0 of the training file and number 1 of the test file",
        "a score on such images looks better than it is: remove the copies",
    ]


def test_images_that_are_not_kept_are_not_searched_for_copies(tmp_path: Path) -> None:
    for index in range(4):
        Image.new("RGB", (6, 6)).save(tmp_path / f"{index}.png")
    files = tuple(sorted(tmp_path.glob("*.png")))
    listed = Listed(files=files, labels=np.array([0, 1, 0, 1]))
    pixels = Streamed(files, 6, whole=False)
    part = Images(pixels=pixels, rows=np.arange(4), labels=listed.labels, digest="none", notes=("train: too large",))
    source = Source(train=listed, test=listed, classes=("a", "b"))
    lines = description.lines(splits(part, part, part, 2), source, tmp_path)
    assert lines["duplicates"] == ["not looked for, because the images are not kept decoded"]
    assert lines["decoded"] == ["not kept decoded: the files are read again in each epoch"]
    assert lines["notes"] == ["train: too large"]


def test_five_hundred_images_are_told_to_be_off_by_some_points() -> None:
    many, few = images([index % 256 for index in range(500)], [0] * 500), images([1], [0])
    lines = description.lines(splits(few, many, few, 1), packed_source(1), Path())
    assert lines["noise"][0] == "500 validation images: +-2.6 points at 95 % (at 90 % accuracy)"
    assert lines["pixels"][0] == "mean 0.250, deviation 0.125 of the training images, scaled to 0..1"
