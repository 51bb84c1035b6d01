"""The same batches whether the images lie in an array, in a store or in files that are decoded on the way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import Images, in_memory
from datasets.source import Listed
from datasets.stream import Streamed
from tuning.loader import Loader

CPU = torch.device("cpu")
COUNT, SIZE = 23, 5


def numbered(count: int = COUNT) -> Images:
    """Image i is filled with the value i and has label i + 100."""
    pixels = np.arange(count, dtype=np.uint8).repeat(3 * SIZE * SIZE).reshape(count, 3, SIZE, SIZE)
    return in_memory(pixels, np.arange(count) + 100)


def streamed(folder: Path, count: int = COUNT) -> Images:
    """The same as `numbered`, one PNG each."""
    files = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(files):
        Image.new("RGB", (SIZE, SIZE), (index,) * 3).save(path)
    part = Listed(files=tuple(files), labels=np.arange(count) + 100)
    pixels = Streamed(part.files, SIZE, whole=False)
    return Images(pixels=pixels, rows=np.arange(count), labels=part.labels, digest="")


@given(st.integers(1, COUNT), st.integers(1, 30))
@settings(max_examples=30)
def test_in_order_every_image_comes_once_with_its_label(count: int, size: int) -> None:
    batches = list(Loader(numbered(count), CPU).in_order(size))
    assert [len(labels) for _, labels in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.cat([images[:, 0, 0, 0] for images, _ in batches]).tolist() == list(range(count))
    assert torch.cat([labels for _, labels in batches]).tolist() == [100 + index for index in range(count)]


def test_batches_follow_the_order_also_of_a_part_of_the_rows() -> None:
    some = numbered().take(np.array([3, 5, 7, 11, 13, 17]))
    order = torch.tensor([[0, 5], [2, 2], [4, 1]])
    seen = [(images[:, 0, 0, 0].tolist(), labels.tolist()) for images, labels in Loader(some, CPU).batches(order)]
    assert seen == [([3, 17], [103, 117]), ([7, 7], [107, 107]), ([13, 5], [113, 105])]


def test_files_read_ahead_give_the_batches_of_an_array(tmp_path: Path) -> None:
    order = torch.randint(COUNT, (40, 4), generator=torch.Generator().manual_seed(0))
    ours = list(Loader(streamed(tmp_path), CPU).batches(order))
    expected = list(Loader(numbered(), CPU).batches(order))
    assert len(ours) == len(expected) == 40
    for (images, labels), (other_images, other_labels) in zip(ours, expected, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_who_stops_early_leaves_no_thread_waiting(tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    batches = Loader(streamed(tmp_path), CPU).batches(torch.arange(COUNT)[:, None])
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_unreadable_file_is_black_and_told_once(tmp_path: Path) -> None:
    images = streamed(tmp_path)
    (tmp_path / "4.png").write_text("no image")
    with pytest.warns(UserWarning, match=r"4.png is no JPEG.*; it is black") as told:
        batches = list(Loader(images, CPU).batches(torch.tensor([[3, 4], [4, 5]])))
    assert [pixels[:, 0, 0, 0].tolist() for pixels, _ in batches] == [[3, 0], [0, 5]]
    assert len(told) == 1


def test_too_many_unreadable_files_end_the_training(tmp_path: Path) -> None:
    images = streamed(tmp_path)
    for index in (4, 5):
        (tmp_path / f"{index}.png").write_text("no image")
    with pytest.warns(UserWarning, match="is black"), pytest.raises(ValueError, match="more than 1% of the images"):
        list(Loader(images, CPU).in_order(8))


def test_statistics_of_files_come_from_a_sample(tmp_path: Path) -> None:
    moments = streamed(tmp_path, 12).pixels.moments()  # type: ignore[union-attr]
    assert moments[:, 0].tolist() == [[index, index**2] for index in range(12)]
