"""Each source finds its real format where people have it, and says in one line what is wrong with anything else."""

from __future__ import annotations

import gzip
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import datasets
from datasets import digits, imagenet, mnist
from datasets.source import Listed, Source
from tests.source_cases import (
    CASES,
    annotation,
    below,
    contents,
    fingerprint,
    idx,
    idx_files,
    put,
    told_labels,
    wnid_files,
)

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MOVABLE = [name for name, case in CASES.items() if case.own != "."]


@pytest.mark.parametrize("name", CASES)
def test_a_source_keeps_its_contract(name: str, tmp_path: Path) -> None:
    source = CASES[name].read(CASES[name].write(tmp_path))
    assert len(set(source.classes)) == len(source.classes) >= 2
    for part in (source.train, source.test):
        images, labels = contents(part)
        assert all(path.is_file() for path in part.files)
        assert len(images) == len(labels) > 0
        assert labels.dtype == np.int64
        if source.task == "multi":
            assert labels.shape == (len(images), len(source.classes))
            assert set(labels.flat) <= {-1, 0, 1}
            continue
        assert set(labels.tolist()) == set(range(len(source.classes)))
        if name != "digits":
            assert told_labels(part) == labels.tolist()
    if isinstance(source.train, Listed):
        assert source.native_size is None
        paths = [path.resolve() for part in (source.train, source.test) for path in part.files]
        assert len(set(paths)) == len(paths)
    else:
        pixels = np.concatenate([part.read()[0] for part in (source.train, source.test)])  # type: ignore[union-attr]
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:3] == (source.native_size, source.native_size)
        assert pixels.shape[3:] in ((), (3,))
        if name != "digits":
            numbers = pixels[:, 1, 0].reshape(len(pixels), -1)[:, 0]
            assert len(set(numbers.tolist())) == len(numbers)
    again: Source = pickle.loads(pickle.dumps(source))
    assert (again.classes, again.task) == (source.classes, source.task)
    assert fingerprint(again) == fingerprint(source)


def test_every_named_set_is_tested_here() -> None:
    assert set(datasets.names()) <= set(CASES)


@pytest.mark.parametrize("way", ["itself", "linked", "holds a link"])
@pytest.mark.parametrize("name", MOVABLE)
def test_a_set_is_found_as_its_own_folder_and_over_soft_links(name: str, way: str, tmp_path: Path) -> None:
    case = CASES[name]
    expected = fingerprint(case.read(case.write(tmp_path / "store")))
    own, holder = tmp_path / "store" / case.own, tmp_path / "links"
    link = holder / ("mine" if way == "linked" else case.own)
    link.parent.mkdir(parents=True)
    link.symlink_to(own)
    root = {"itself": own, "linked": link, "holds a link": holder}[way]
    assert fingerprint(case.read(root)) == expected


@pytest.mark.parametrize("place", [".", "raw", "fashion-mnist", "fashion_mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_lie_in_usual_places_gzipped_or_not(place: str, packed: bool, tmp_path: Path) -> None:
    files = idx_files("fashion_mnist")
    if not packed:
        files = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in files.items()}
    source = mnist.read(put(tmp_path / "data", below(place, files)), "fashion_mnist")
    expected = mnist.read(CASES["fashion_mnist"].write(tmp_path / "other"), "fashion_mnist")
    assert fingerprint(source) == fingerprint(expected)


def test_a_complete_folder_is_preferred_to_an_incomplete_one(tmp_path: Path) -> None:
    CASES["mnist"].write(tmp_path)
    (tmp_path / "mnist").mkdir()
    shutil.copy(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte.gz", tmp_path / "mnist")
    assert mnist.read(tmp_path, "mnist").train.files[0].parent == tmp_path / "MNIST/raw"


def test_fashion_mnist_is_not_taken_for_mnist(tmp_path: Path) -> None:
    put(tmp_path, idx_files("fashion_mnist", mnist.SETS["fashion_mnist"].begins))
    mnist.read(tmp_path, "fashion_mnist").train.read()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte.gz belongs to Fashion-MNIST, not to MNIST"):
        mnist.read(tmp_path, "mnist").train.read()  # type: ignore[union-attr]


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_the_real_one() -> None:
    source = mnist.read(DEBIAN, "fashion_mnist")
    (images, labels), (test_images, _) = source.train.read(), source.test.read()  # type: ignore[union-attr]
    assert (images.shape, test_images.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert images.mean() / 255 == pytest.approx(0.286, abs=0.001)  # the known statistics of the set
    assert tuple(labels[:10]) == mnist.SETS["fashion_mnist"].begins


def test_digits_are_all_there_with_their_labels(tmp_path: Path) -> None:
    source = digits.read(tmp_path, "digits")
    whole = load_digits()
    found = [pair for part in (source.train, source.test) for pair in zip(*contents(part), strict=True)]
    expected = zip((whole.images * (255 / 16)).round().astype(np.uint8), whole.target, strict=True)
    assert sorted(found) == sorted((image.tobytes(), label) for image, label in expected)


IDX_ONE = "train-images-idx3-ubyte.gz"
FASHION = CASES["fashion_mnist"].files
XML = "Annotations/2008_000002.xml"
DAMAGES: list[tuple[str, str, bytes | None, str]] = [  # set, file, what it becomes or None for none, message
    ("fashion_mnist", IDX_ONE, gzip.compress(gzip.decompress(FASHION[IDX_ONE])[:-5]), f"{IDX_ONE} is truncated"),
    ("fashion_mnist", IDX_ONE, gzip.compress(b"hello" * 10), f"{IDX_ONE} is not an IDX file"),
    ("fashion_mnist", IDX_ONE, b"<html>not found</html>", f"{IDX_ONE} is not an IDX file"),
    ("fashion_mnist", IDX_ONE, b"", f"{IDX_ONE} is not an IDX file"),
    ("fashion_mnist", IDX_ONE, b"\0\0\x08\3\0", f"{IDX_ONE} is not an IDX file"),
    ("fashion_mnist", IDX_ONE, FASHION[IDX_ONE][:40], f"{IDX_ONE} is damaged"),
    ("fashion_mnist", IDX_ONE, FASHION[IDX_ONE][:20] + b"\xff" * 40, f"{IDX_ONE} is damaged"),
    ("fashion_mnist", IDX_ONE, CASES["mnist"].files["t10k-images-idx3-ubyte.gz"], "do not hold as many images as"),
    ("fashion_mnist", IDX_ONE, FASHION["train-labels-idx1-ubyte.gz"], "do not hold as many images as"),
    ("mnist", "train-labels-idx1-ubyte.gz", idx(np.arange(20, dtype=np.uint8)), "labels of 10 classes"),
    ("emnist_letters", "emnist-letters-test-labels-idx1-ubyte.gz", idx(np.arange(26, dtype=np.uint8)), "26 classes"),
    ("mnist", "t10k-labels-idx1-ubyte.gz", None, "MNIST/raw has train-images.* but no t10k-labels-idx1-ubyte"),
    ("cifar10", "data_batch_3", b"cos\nsystem\n(S'true'\ntR.", "data_batch_3 is damaged"),
    ("cifar10", "batches.meta", b"", "batches.meta is damaged"),
    ("cifar10", "test_batch", None, "cifar-10-batches-py has data_batch_1 but no test_batch"),
    ("cifar100", "train", b"", "cifar-100-python/train is damaged"),
    ("svhn", "test_32x32.mat", b"MATLAB 5.0", "test_32x32.mat is damaged"),
    ("svhn", "train_32x32.mat", None, "svhn has test_32x32.mat but no train_32x32.mat"),
    ("voc2012", XML, None, f"{XML} cannot be read"),
    ("voc2012", XML, b"<annotation><object>", f"{XML} is not well-formed XML"),
    ("voc2012", XML, b"<?xml version='1.0' encoding='nonsense'?><annotation/>", f"{XML} is not well-formed XML"),
    ("voc2012", XML, b"<html/>", f"{XML} is no annotation of VOC but <html>"),
    ("voc2012", XML, annotation(("unicorn", "0")), f"{XML} has an object 'unicorn'"),
    ("voc2012", XML, annotation(("dog", "maybe")), f"{XML} has an object 'dog' with difficult 'maybe'"),
    ("voc2012", "JPEGImages/2008_000003.jpg", None, "1 of 3 images are missing, the first is .*2008_000003.jpg"),
    ("voc2012", "ImageSets/Main/train.txt", None, "has val.txt but no ImageSets/Main/train.txt"),
    ("voc2012", "ImageSets/Main/train.txt", b"", "train.txt is empty"),
    ("voc2012", "ImageSets/Main/train.txt", b"000005\n", "train.txt names '000005', but"),
    ("voc2012", "ImageSets/Main/val.txt", b"2008_000001\n", "train.txt and val.txt both list 2008_000001"),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), DAMAGES)
def test_a_damaged_file_is_named(name: str, file: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = case.write(tmp_path) / case.own / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        fingerprint(case.read(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_classes_of_imagenette_have_readable_names(tmp_path: Path) -> None:
    case = CASES["imagenette_160"]
    assert case.read(case.write(tmp_path)).classes[:3] == ("tench", "English springer", "cassette player")


def test_imagenette_is_neither_of_another_size_nor_short_of_classes(tmp_path: Path) -> None:
    CASES["imagenette_320"].write(tmp_path)
    with pytest.raises(ValueError, match="is imagenette2-320, not imagenette2-160; ask for imagenette_320"):
        CASES["imagenette_160"].read(tmp_path / "imagenette2-320")
    shutil.rmtree(tmp_path / "imagenette2-320/train/n03425413")
    with pytest.raises(ValueError, match="imagenette2-320/train has not the ten class folders .*: n03425413"):
        CASES["imagenette_320"].read(tmp_path)


@pytest.mark.parametrize("place", [".", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"])
def test_imagenet_is_read_where_people_have_it(place: str, tmp_path: Path) -> None:
    files = wnid_files(["n01440764", "n01443537"])
    source = imagenet.read(put(tmp_path, below(place, files)), "imagenet")
    assert source.classes == ("n01440764", "n01443537")
    assert (len(source.train.files), len(source.test.files)) == (6, 4)
    assert all(tmp_path / place / "val" in path.parents for path in source.test.files)


def test_imagenet_must_be_there_and_sorted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} has no folders train and val of ImageNet.*image-net.org"):
        imagenet.read(tmp_path, "imagenet")
    put(tmp_path, wnid_files(["n01440764", "n01443537"]))
    shutil.rmtree(tmp_path / "val/n01443537")
    with pytest.raises(ValueError, match="val needs at least two class folders"):
        imagenet.read(tmp_path, "imagenet")
    put(tmp_path / "val", {"ILSVRC2012_val_00000001.JPEG": b""})
    with pytest.raises(ValueError, match="val holds images of all classes side by side, .*00001.JPEG.*valprep.sh"):
        imagenet.read(tmp_path, "imagenet")


def test_labels_of_voc_know_which_objects_are_difficult(tmp_path: Path) -> None:
    source = CASES["voc2012"].read(CASES["voc2012"].write(tmp_path))
    assert source.task == "multi"
    for part, expected in (
        (source.train, [{"person": 1, "dog": -1}, {"dog": 1, "sofa": 1}, {"person": 1}]),
        (source.test, [{"cat": -1}, {}]),
    ):
        assert isinstance(part, Listed)
        assert part.whole
        found = [{source.classes[label]: row[label] for label in np.flatnonzero(row)} for row in part.labels]
        assert found == expected
    assert [path.stem for path in source.train.files] == ["2008_000001", "2008_000002", "2008_000003"]
