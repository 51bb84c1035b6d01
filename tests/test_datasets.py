"""Splits partition, are stratified and seeded; each source reads its real format and refuses what is not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import datasets

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6, size: int = 20) -> None:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.full((size + index, size, 3), 40 * number + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


@given(st.lists(st.integers(2, 30), min_size=2, max_size=6), st.floats(0.01, 0.9), st.integers(0, 5))
def test_a_split_partitions_every_class(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = tuple(map(str, range(len(counts))))
    kept, held_out = datasets.stratified_split(labels, fraction, seed, classes)
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        inside = int((labels[held_out] == label).sum())
        assert 1 <= inside < count
        assert abs(inside - fraction * count) <= 1
    again = datasets.stratified_split(labels, fraction, seed, classes)
    assert np.array_equal(held_out, again[1])


def test_another_seed_gives_another_split_but_the_same_test_set() -> None:
    one, other = (datasets.load("digits", root="unused", seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.val.images, other.val.images)
    assert np.array_equal(one.test.images, other.test.images)
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == datasets.load("digits", root="unused", seed=0).fingerprint


def test_digits_are_all_there_and_no_image_lies_in_two_parts() -> None:
    splits = datasets.load("digits", root="unused", val_fraction=0.2)
    assert len(splits.train) + len(splits.val) + len(splits.test) == 1797
    assert splits.train.images.dtype == np.uint8
    assert splits.train.images.shape[1:] == (1, 8, 8)
    assert splits.train.images.max() == 255
    scaled = splits.train.images / 255
    assert splits.mean[0] == pytest.approx(scaled.mean())
    assert splits.std[0] == pytest.approx(scaled.std())


def test_images_are_read_only() -> None:
    splits = datasets.load("digits", root="unused")
    with pytest.raises(ValueError, match="read-only"):
        splits.train.pixels[0] = 0  # type: ignore[index]


def test_sizes_follow_the_request_or_what_the_architecture_can_take() -> None:
    assert datasets.load("digits", root="unused").image_size == 8
    assert datasets.load("digits", root="unused", fit=lambda size: 4 * size).image_size == 32
    assert datasets.load("digits", root="unused", image_size=12, fit=lambda size: 4 * size).image_size == 12


def test_fewer_training_images_are_a_seeded_part_of_all_classes() -> None:
    whole = datasets.load("digits", root="unused")
    some, again, other = (datasets.load("digits", root="unused", seed=s, train_images=200) for s in (0, 0, 1))
    assert abs(len(some.train) - 200) <= 5
    assert set(some.train.labels) == set(range(10))
    assert np.array_equal(some.val.images, whole.val.images)
    known = {image.tobytes() for image in whole.train.images}
    assert all(image.tobytes() in known for image in some.train.images)
    assert some.fingerprint == again.fingerprint != other.fingerprint
    assert datasets.load("digits", root="unused", train_images=10**6).fingerprint == whole.fingerprint


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_the_real_one() -> None:
    splits = datasets.load("fashion_mnist", root=DEBIAN)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (54_000, 6_000, 10_000)
    assert splits.mean[0] == pytest.approx(0.286, abs=0.001)  # the known statistics of the set
    assert splits.std[0] == pytest.approx(0.353, abs=0.001)


def test_a_folder_is_decoded_squared_and_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", count=10)
    splits = datasets.load(str(tmp_path / "pets"), root="unused", image_size=16)
    assert splits.name == "pets"
    assert splits.classes == ("cat", "dog")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (14, 2, 4)
    assert np.array_equal(splits.train.images[:, 0, 8, 8] // 40, splits.train.labels)


def test_ready_splits_of_a_folder_are_kept(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        write_folder(tmp_path / "pets" / part, count=count)
    splits = datasets.load("pets", root=tmp_path, image_size=16)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (10, 6, 4)


def test_the_test_set_of_a_folder_is_not_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_folder(tmp_path / "pets" / part)
    broken = tmp_path / "pets" / "test" / "cat" / "0.png"
    broken.write_bytes(b"not an image")
    splits = datasets.load(str(tmp_path / "pets"), root="unused", image_size=16)
    with pytest.raises(ValueError, match="1 of 12 images cannot be read, more than 1%: .*test/cat/0.png is no "):
        _ = splits.test


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="at least two class folders with images, found none"):
        datasets.load(str(tmp_path / "empty"), root="unused")
    write_folder(tmp_path / "one", classes=("cat",))
    with pytest.raises(ValueError, match="found only cat"):
        datasets.load(str(tmp_path / "one"), root="unused")
    write_folder(tmp_path / "hollow")
    (tmp_path / "hollow" / "eel").mkdir()
    with pytest.raises(ValueError, match="eel holds no images"):
        datasets.load(str(tmp_path / "hollow"), root="unused")
    write_folder(tmp_path / "bad")
    (tmp_path / "bad" / "cat" / "text.jpg").write_text("I am no image")
    with pytest.raises(ValueError, match="1 of 11 images cannot be read, more than 1%: .*text.jpg is no "):
        datasets.load(str(tmp_path / "bad"), root="unused")
    for part in ("train", "val"):
        write_folder(tmp_path / "unequal" / part)
    write_folder(tmp_path / "unequal" / "val", classes=("eel",))
    with pytest.raises(ValueError, match="other class folders than train: eel"):
        datasets.load(str(tmp_path / "unequal"), root="unused")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets")
    Image.new("1", (8000, 8000)).save(tmp_path / "pets" / "cat" / "bomb.png")
    with pytest.raises(ValueError, match="bomb.png claims 8000x8000 pixels"):
        datasets.load(str(tmp_path / "pets"), root="unused")


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean digits.*fashion_mnist"):
        datasets.load("digit", root=tmp_path)


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="class 'b' has 1 images"):
        datasets.stratified_split(np.array([0, 0, 1]), 0.5, 0, ("a", "b"))
