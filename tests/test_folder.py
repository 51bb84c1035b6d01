"""A folder of class folders is listed as people have it, and what is wrong with one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets import folder
from datasets.splits import stratified_split
from tests.source_cases import Files, below, contents, pets, put, told_labels


@pytest.mark.parametrize("val", ["val", "valid"])
def test_ready_splits_of_a_folder_are_kept(val: str, tmp_path: Path) -> None:
    for name, count in (("train", 5), (val, 3), ("test", 2)):
        put(tmp_path / name, pets(count))
    source = folder.read(tmp_path, "pets")
    assert source.val
    for part, which in ((source.train, "train"), (source.val, val), (source.test, "test")):
        assert {path.relative_to(tmp_path).parts[0] for path in part.files} == {which}
        assert told_labels(part) == contents(part)[1].tolist()
    assert [len(part.files) for part in (source.train, source.val, source.test)] == [10, 6, 4]


def test_a_folder_without_a_test_part_gives_a_fifth_of_each_class_always_the_same(tmp_path: Path) -> None:
    put(tmp_path, pets(10))
    first, again = (folder.read(tmp_path, "pets") for _ in range(2))
    assert contents(first.test)[1].tolist() == [0, 0, 1, 1]
    expected = stratified_split(np.repeat([0, 1], 10), 0.2, 0, first.classes)[1]
    assert [str(path.relative_to(tmp_path)) for path in first.test.files] == [sorted(pets(10))[row] for row in expected]
    assert first.test.files == again.test.files
    assert len({*first.train.files, *first.test.files}) == 20
    assert first.val is None


def test_images_of_a_folder_lie_at_any_depth_behind_soft_links_and_in_many_formats(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "c.jfif", "d/e/f.Png", "g.bmp", "h.webp", "i.gif", "j.tif", "k.tiff"]
    put(tmp_path / "store", {name: b"" for name in [*names, "notes.txt", ".hidden.jpg", ".hidden/x.jpg", "jpg"]})
    put(tmp_path / "pets", pets(2) | {".git/x.png": b""})
    (tmp_path / "pets/eel").symlink_to(tmp_path / "store")
    (tmp_path / "pets/cat/linked.png").symlink_to(tmp_path / "store/g.bmp")
    source = folder.read(tmp_path / "pets", "pets")
    files = {*source.train.files, *source.test.files}
    assert source.classes == ("cat", "dog", "eel")
    found = [str(path.relative_to(tmp_path / "pets/eel")) for path in sorted(files) if "eel" in path.parts]
    assert found == names
    assert tmp_path / "pets/cat/linked.png" in files


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, pets(3, ("plane", "train")))
    assert folder.read(tmp_path, "vehicles").classes == ("plane", "train")


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    def refused(name: str, files: Files, message: str, links: dict[str, str] | None = None) -> None:
        root = put(tmp_path / name, files)
        root.mkdir(exist_ok=True)
        for link, target in (links or {}).items():
            (root / link).symlink_to(root / target)
        with pytest.raises(ValueError, match=f"{root}.* {message}"):
            folder.read(root, name)

    both = below("train", pets()) | below("val", pets())
    refused("empty", {}, "needs at least two class folders with images, found none")
    refused("one", pets(classes=("cat",)), "needs at least two class folders with images, found only cat")
    refused("hollow", pets() | {"eel/notes.txt": b""}, "holds no images")
    refused("unequal", both | below("val", pets(classes=("eel",))), "has other class folders than train: eel")
    refused("lost", below("val", pets()) | pets(), "has val/ but no train/")
    refused("twice", both | below("valid", pets()), "has both val/ and valid/; keep one")
    refused("same", below("train", pets()), "two of train, test are the same folder", {"test": "train"})
    refused("broken", pets(), "is no file, perhaps a soft link to nothing", {"cat/x.png": "gone.png"})
    refused("circle", pets(), "is a soft link to a folder that it lies in", {"cat/more": "cat"})
    with pytest.raises(ValueError, match=f"cannot list {tmp_path}/gone"):
        folder.read(tmp_path / "gone", "gone")
