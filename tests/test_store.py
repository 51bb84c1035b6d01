"""Images are decoded once per machine, shared by all processes, and never served from a torn or outdated file."""

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets import store
from datasets.source import Labels, Listed, Packed, Pixels

SIZE = 6
opened = partial(store.opened, share=0.5)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ray-image-tuning" / "stores"


def listed(folder: Path, count: int = 5, whole: bool = False) -> Listed:
    """Image i is filled with the value 10 * i and has label i % 2."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{index:04}.png" for index in range(count)]
    for index, path in enumerate(files):
        Image.new("RGB", (9, 7), (10 * index % 256,) * 3).save(path)
    return Listed(files=tuple(files), labels=np.arange(count) % 2, whole=whole)


def read_packed(path: Path) -> tuple[Pixels, Labels]:
    with open(path.with_suffix(".reads"), "a") as file:
        file.write(".")
    images = np.load(path)
    return images, np.arange(len(images))


def packed(folder: Path, *shape: int) -> Packed:
    path = folder / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return Packed(files=(path,), read=partial(read_packed, path))


def made(cache: Path) -> list[Path]:
    return sorted(path.parent for path in cache.glob(f"*/*/{store.DESCRIPTION}"))


def test_files_become_rows_with_their_labels_and_moments(tmp_path: Path) -> None:
    stored = opened(listed(tmp_path / "x"), SIZE, "x")
    assert stored.pixels.shape == (5, 3, SIZE, SIZE)
    assert [int(image.max()) for image in stored.pixels] == [0, 10, 20, 30, 40]
    assert stored.labels.tolist() == [0, 1, 0, 1, 0]
    assert stored.rows.tolist() == [0, 1, 2, 3, 4]
    assert stored.moments[:, 0].tolist() == [[v, v * v] for v in (0, 10, 20, 30, 40)]


@pytest.mark.parametrize("shape", [(4, 5, 5), (4, SIZE, SIZE), (4, 5, 5, 3)], ids=str)
def test_packed_images_are_read_once(tmp_path: Path, own_cache: Path, shape: tuple[int, ...]) -> None:
    part = packed(tmp_path, *shape)
    first, second = opened(part, SIZE, "x"), opened(part, SIZE, "x")
    assert first.pixels.shape == (4, 3 if len(shape) == 4 else 1, SIZE, SIZE)
    assert np.array_equal(first.pixels, second.pixels)
    assert (tmp_path / "images.reads").read_text() == "."
    assert first.digest == second.digest
    for index, image in enumerate(first.pixels):
        values = image.reshape(len(image), -1).astype(float)
        assert np.allclose(first.moments[index, :, 0], values.mean(1))
        assert np.allclose(first.moments[index, :, 1], (values**2).mean(1))


def test_the_pixels_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    pixels = opened(listed(tmp_path / "x"), SIZE, "x").pixels
    assert isinstance(pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1


def test_a_file_that_changed_is_decoded_again_and_the_old_store_goes(tmp_path: Path, own_cache: Path) -> None:
    part = listed(tmp_path / "x")
    before = opened(part, SIZE, "x")
    Image.new("RGB", (9, 7), (200, 200, 200)).save(part.files[2])
    os.utime(part.files[2], ns=(1, 1))
    after = opened(part, SIZE, "x")
    assert int(after.pixels[2].max()) == 200
    assert before.digest != after.digest
    assert len(made(own_cache)) == 1
    assert int(before.pixels[2].max()) == 20, "who still reads the old one goes on"


def test_sizes_names_and_labels_have_stores_of_their_own(tmp_path: Path, own_cache: Path) -> None:
    part = listed(tmp_path / "x")
    opened(part, SIZE, "x")
    opened(part, SIZE + 1, "x")
    opened(part, SIZE, "y")
    assert len(made(own_cache)) == 3
    relabelled = Listed(files=part.files, labels=1 - part.labels)
    assert opened(relabelled, SIZE, "x").labels.tolist() == [1, 0, 1, 0, 1]
    assert opened(Listed(files=part.files, labels=part.labels, whole=True), SIZE, "x").labels.tolist() == [
        0,
        1,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize("file", ["pixels", "labels.npy", "rows.npy", "moments.npy", store.DESCRIPTION])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_torn_store_is_made_again(tmp_path: Path, own_cache: Path, file: str, damage: str) -> None:
    part = listed(tmp_path / "x")
    whole = opened(part, SIZE, "x")
    digest = whole.digest
    (path,) = made(own_cache)
    if damage == "missing":
        (path / file).unlink()
    else:
        os.truncate(path / file, (path / file).stat().st_size - 7)
    again = opened(part, SIZE, "x")
    assert again.digest == digest
    assert again.labels.tolist() == [0, 1, 0, 1, 0]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, own_cache: Path) -> None:
    """SIGKILL in the middle of decoding: the lock goes with the process, its half-made store at the next start."""
    part = listed(tmp_path / "x", count=3000)
    (tmp_path / "part.pkl").write_bytes(pickle.dumps(part))
    code = (
        "import pickle, sys, pathlib; from datasets.store import opened;"
        f"opened(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()), {SIZE}, 'x', 0.5)"
    )
    maker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "part.pkl")])
    deadline = time.monotonic() + 60
    while not list(own_cache.glob("*/*/pixels")) and time.monotonic() < deadline:
        time.sleep(0.001)
    maker.kill()
    maker.wait()
    assert list(own_cache.glob("*/*.new"))
    assert not made(own_cache), "it was killed in the middle"
    assert len(opened(part, SIZE, "x").rows) == 3000
    assert not list(own_cache.glob("*/*.new"))


def count_reads(path: Path, results: "multiprocessing.Queue[str]") -> None:
    results.put(opened(Packed(files=(path,), read=partial(read_packed, path)), SIZE, "x").digest)


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    part = packed(tmp_path, 500, 40, 40)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=count_reads, args=(part.files[0], results)) for _ in range(3)]
    for process in processes:
        process.start()
    digests = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(digests) == 1
    assert (tmp_path / "images.reads").read_text() == "."


def test_a_few_unreadable_images_are_left_out_and_named(tmp_path: Path) -> None:
    part = listed(tmp_path / "x", count=200)
    part.files[7].write_text("no image")
    stored = opened(part, SIZE, "x")
    assert len(stored.rows) == len(stored.labels) == 199
    assert 7 not in stored.rows
    assert stored.labels.tolist() == [index % 2 for index in range(200) if index != 7]
    assert len(stored.unreadable) == 1
    assert "0007.png is no JPEG" in stored.unreadable[0]


def test_many_unreadable_images_are_refused_and_leave_no_store(tmp_path: Path, own_cache: Path) -> None:
    part = listed(tmp_path / "x", count=100)
    for index in (3, 5):
        part.files[index].write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 of 100 images cannot be read, more than 1%: .*0003.png.*; .*0005.png"):
        opened(part, SIZE, "x")
    assert not made(own_cache)
    for index in (3, 5):
        Image.new("RGB", (9, 7)).save(part.files[index])
    assert len(opened(part, SIZE, "x").rows) == 100


def test_a_set_without_room_is_refused_with_the_sizes(tmp_path: Path) -> None:
    one = listed(tmp_path / "x", count=1)
    many = Listed(files=one.files * 10_000, labels=np.zeros(10_000, np.int64))
    with pytest.raises(
        store.TooLarge, match=r"10,000 images are [\d.]+ GiB decoded, more than 0.5 of the [\d.]+ GiB of"
    ):
        opened(many, 20_000, "x")


def splits_of(tmp_path: Path) -> datasets.Splits:
    for name in ("cat", "dog"):
        (tmp_path / "pets").mkdir(exist_ok=True)
        listed(tmp_path / "pets" / name, count=20)
    return datasets.load(str(tmp_path / "pets"), root="unused", image_size=SIZE)


def test_pickled_splits_carry_no_pixels_and_open_the_same_ones(tmp_path: Path, own_cache: Path) -> None:
    splits = splits_of(tmp_path)
    pickled = pickle.dumps(splits)
    assert len(pickled) < 4_000
    again = pickle.loads(pickled)
    assert isinstance(again.train.pixels, np.memmap)
    assert np.array_equal(again.train.images, splits.train.images)
    assert np.array_equal(again.test.images, splits.test.images)
    assert again.fingerprint == splits.fingerprint


def test_a_machine_without_the_store_makes_its_own(tmp_path: Path, own_cache: Path) -> None:
    splits = splits_of(tmp_path)
    pickled, images = pickle.dumps(splits), splits.val.images
    shutil.rmtree(own_cache)
    again = pickle.loads(pickled)
    assert np.array_equal(again.val.images, images)
    assert len(made(own_cache)) == 1


def test_a_machine_with_other_data_is_refused(tmp_path: Path, own_cache: Path) -> None:
    pickled = pickle.dumps(splits_of(tmp_path))
    shutil.rmtree(own_cache)
    Image.new("RGB", (9, 7), (99, 99, 99)).save(tmp_path / "pets" / "cat" / "0003.png")
    with pytest.raises(ValueError, match="are not those of the machine that started the study"):
        pickle.loads(pickled)


def test_images_without_room_are_decoded_on_the_way_to_the_same_pixels(tmp_path: Path, own_cache: Path) -> None:
    kept = splits_of(tmp_path)
    shutil.rmtree(own_cache)
    streamed = datasets.load(str(tmp_path / "pets"), root="unused", image_size=SIZE, store_share=0)
    assert not made(own_cache)
    assert not isinstance(streamed.train.pixels, np.ndarray)
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(streamed, part).images, getattr(kept, part).images)
        assert np.array_equal(getattr(streamed, part).labels, getattr(kept, part).labels)
    assert streamed.mean == pytest.approx(kept.mean)
    (note, *_) = streamed.notes
    assert note.startswith("train: 32 images are 0.0 GiB decoded, more than 0 of the ")
    assert note.endswith("so they are decoded anew in each epoch")
    assert np.array_equal(pickle.loads(pickle.dumps(streamed)).val.images, kept.val.images)


def test_a_description_from_elsewhere_is_no_store(tmp_path: Path, own_cache: Path) -> None:
    part = listed(tmp_path / "x")
    opened(part, SIZE, "x")
    (path,) = made(own_cache)
    (path / store.DESCRIPTION).write_text(json.dumps({"shape": [5, 3, SIZE, SIZE]}))
    assert len(opened(part, SIZE, "x").rows) == 5
