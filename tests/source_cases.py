"""Small data sets in the real format of each source, written from nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, SVHN, Imagenette

from datasets import cifar, digits, folder, imagenet, imagenette, mnist, svhn, table, voc
from datasets.source import Listed, Part, Source

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
HOST = "http://data.invalid"
Files = dict[str, bytes]  # by path below the root


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def put(root: Path, files: Files) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def picture(value: int, kind: str) -> bytes:
    """Gray of 20 times `value`, which survives JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (20 * value,) * 3).save(file, kind)
    return file.getvalue()


def painted(labels: list[int], first: int, side: int) -> NDArray[np.uint8]:
    """Images that tell their label at (0, 1) and their number at (1, 0), and so whether they are transposed."""
    images = np.zeros((len(labels), side, side), np.uint8)
    images[:, 0, 1], images[:, 1, 0] = labels, np.arange(first, first + len(labels))
    return images


def idx(array: NDArray[np.uint8] | NDArray[np.int32], code: int = 8) -> bytes:
    big_endian = array.astype(">i4") if code == 12 else array
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + big_endian.tobytes()


def idx_files(name: str, first_labels: tuple[int, ...] = ()) -> Files:
    chosen = mnist.SETS[name]
    count = len(chosen.classes)
    files: Files = {}
    for part, first, labels in ((0, 0, [*first_labels, *range(count), *range(count)]), (2, 200, [*range(count)][::-1])):
        images = painted(labels, first, 28)
        stored = np.array(labels, np.uint8) + chosen.first_label
        table_of_labels = np.stack([stored, *[stored + 50] * 7], 1).astype(np.int32)
        files[chosen.files[part]] = idx(images.transpose(0, 2, 1) if name.startswith("emnist") else images)
        files[chosen.files[part + 1]] = idx(table_of_labels, 12) if name == "qmnist" else idx(stored)
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def below(place: str, files: Files) -> Files:
    return {f"{place}/{name}": content for name, content in files.items()}


def cifar_files(kind: type[CIFAR10], name: str) -> Files:
    labels = "labels" if name == "cifar10" else "fine_labels"
    count = len(cifar.CLASSES[name])
    files: Files = {kind.meta["filename"]: pickle.dumps({kind.meta["key"]: [*cifar.CLASSES[name]]})}
    for position, (batch, _) in enumerate([*kind.train_list, *kind.test_list]):
        images = np.repeat(
            painted([*range(count)], 10 * position + (name == "cifar100") * 90 * position, 32)[:, None], 3, 1
        )
        entry = {"data": images.reshape(count, -1), labels: [*range(count)], "coarse_labels": [0] * count}
        files[batch] = pickle.dumps(entry)
    return files


def tar(files: Files, mode: Literal["w", "w:gz"] = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def mat(labels: list[int], first: int) -> bytes:
    """As SVHN has it: (32, 32, 3, N), and the digit 0 is a 10."""
    file = io.BytesIO()
    images = np.repeat(painted(labels, first, 32)[:, :, :, None], 3, 3).transpose(1, 2, 3, 0)
    scipy.io.savemat(file, {"X": images, "y": np.array([[label or 10] for label in labels], np.uint8)})
    return file.getvalue()


def wnid_files(wnids: list[str], suffix: str = "JPEG") -> Files:
    return {
        f"{part}/{wnid}/{wnid}_{number}.{suffix}": picture(label, "JPEG")
        for part, count in (("train", 3), ("val", 2))
        for label, wnid in enumerate(wnids)
        for number in range(count)
    }


def annotation(*objects: tuple[str, str]) -> bytes:
    items = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
        for name, difficult in objects
    )
    return f"<annotation><folder>VOC2012</folder>{items}</annotation>".encode()


def pets(count: int = 5, classes: tuple[str, ...] = ("cat", "dog")) -> Files:
    return {f"{name}/{n}.png": picture(label, "PNG") for label, name in enumerate(classes) for n in range(count)}


VOC_OBJECTS = {
    "2008_000001": [("person", "0"), ("dog", "1")],
    "2008_000002": [("dog", "0"), ("dog", "1"), ("sofa", "1"), ("sofa", "0")],
    "2008_000003": [("person", "0")],
    "2009_000001": [("cat", "1"), ("cat", "1")],
    "2009_000002": [],
}
VOC_FILES: Files = {
    "ImageSets/Main/train.txt": b"2008_000001\n2008_000002\n2008_000003\n",
    "ImageSets/Main/val.txt": b"2009_000001\n2009_000002\n",
    **{f"Annotations/{image_id}.xml": annotation(*objects) for image_id, objects in VOC_OBJECTS.items()},
    **{f"JPEGImages/{image_id}.jpg": picture(1, "JPEG") for image_id in VOC_OBJECTS},
}
CIFAR10_FILES, CIFAR100_FILES = cifar_files(CIFAR10, "cifar10"), cifar_files(CIFAR100, "cifar100")
CIFAR10_TAR, CIFAR100_TAR = (
    tar(below("cifar-10-batches-py", CIFAR10_FILES)),
    tar(below("cifar-100-python", CIFAR100_FILES)),
)
SVHN_FILES = {"train_32x32.mat": mat([*range(10)] * 2, 0), "test_32x32.mat": mat([*range(10)], 100)}
IMAGENETTE_FILES = wnid_files(sorted(Imagenette._WNID_TO_CLASS))
IMAGENETTE_TARS = {
    size: tar(below(f"imagenette2{ending}", IMAGENETTE_FILES))
    for size, ending in (("full", ""), ("320px", "-320"), ("160px", "-160"))
}
VOC_TAR = tar(below("VOCdevkit/VOC2012", VOC_FILES), "w")
VOC_NAME = "VOCtrainval_11-May-2012.tar"
VOC_ARCHIVE = {"url": f"{HOST}/{VOC_NAME}", "filename": VOC_NAME, "md5": md5(VOC_TAR)}


def tables(kind: type[CIFAR10], files: Files) -> tuple[list[list[str]], list[list[str]], dict[str, str]]:
    train, test = ([[name, md5(files[name])] for name, _ in known] for known in (kind.train_list, kind.test_list))
    return train, test, kind.meta | {"md5": md5(files[kind.meta["filename"]])}


class TinyCIFAR10(CIFAR10):
    url, tgz_md5 = f"{HOST}/cifar-10-python.tar.gz", md5(CIFAR10_TAR)
    train_list, test_list, meta = tables(CIFAR10, CIFAR10_FILES)


class TinyCIFAR100(CIFAR100):
    url, tgz_md5 = f"{HOST}/cifar-100-python.tar.gz", md5(CIFAR100_TAR)
    train_list, test_list, meta = tables(CIFAR100, CIFAR100_FILES)


class TinySVHN(SVHN):
    split_list = {  # noqa: RUF012
        split: [f"{HOST}/{split}_32x32.mat", f"{split}_32x32.mat", md5(SVHN_FILES[f"{split}_32x32.mat"])]
        for split in ("train", "test")
    }


class TinyImagenette(Imagenette):
    _ARCHIVES = {  # noqa: RUF012
        size: (f"{HOST}/{Path(url).name}", md5(IMAGENETTE_TARS[size]))
        for size, (url, _) in Imagenette._ARCHIVES.items()
    }


@dataclass(frozen=True)
class Case:
    """A small set in its real format, and how it is read."""

    read: Callable[[Path], Source]
    own: str = "."  # the folder of the set, below the one that holds it
    files: Files = field(default_factory=dict)  # below `own`
    archive: tuple[str, bytes] | None = None

    def write(self, root: Path) -> Path:
        return put(root, below(self.own, self.files))


CASES = {
    "digits": Case(partial(digits.read, name="digits")),
    **{
        name: Case(partial(mnist.read, name=name), f"{known.torchvision}/raw", idx_files(name))
        for name, known in mnist.SETS.items()
    },
    "cifar10": Case(
        lambda root: cifar.source(root, "cifar10", TinyCIFAR10),
        "cifar-10-batches-py", CIFAR10_FILES, ("cifar-10-python.tar.gz", CIFAR10_TAR),
    ),
    "cifar100": Case(
        lambda root: cifar.source(root, "cifar100", TinyCIFAR100),
        "cifar-100-python", CIFAR100_FILES, ("cifar-100-python.tar.gz", CIFAR100_TAR),
    ),
    "svhn": Case(lambda root: svhn.source(root, TinySVHN), "svhn", SVHN_FILES),
    **{
        name: Case(
            partial(imagenette.source, name=name, kind=TinyImagenette), place, IMAGENETTE_FILES,
            (f"{place}.tgz", IMAGENETTE_TARS[size]),
        )
        for (name, size), place in zip(
            imagenette.SIZES.items(), ("imagenette2", "imagenette2-320", "imagenette2-160"), strict=True
        )
    },
    "imagenet": Case(partial(imagenet.read, name="imagenet"), "imagenet", wnid_files(["n01", "n02", "n03"])),
    "voc2012": Case(
        lambda root: voc.source(root, VOC_ARCHIVE),
        "VOCdevkit/VOC2012", VOC_FILES, (VOC_NAME, VOC_TAR),
    ),
    "folder": Case(
        partial(folder.read, name="pets"),
        files=pets(5),
    ),
    "table": Case(
        lambda root: table.read(root / "table.csv", "table"),
        files={f"{n}.png": picture(n % 2, "PNG") for n in range(10)}
        | {"table.csv": b"".join(b"%d.png,%s\n" % (n, (b"cat", b"dog")[n % 2]) for n in range(10))},
    ),
}  # fmt: skip
ARCHIVES = [name for name, case in CASES.items() if case.archive]
MOVABLE = [name for name, case in CASES.items() if case.own != "."]


def contents(part: Part) -> tuple[list[bytes], NDArray[np.int64]]:
    """Each image as bytes, wherever it lies, and the labels."""
    if isinstance(part, Listed):
        return [path.read_bytes() for path in part.files], part.labels
    images, labels = part.read()
    return [image.tobytes() for image in images], labels


def fingerprint(source: Source) -> str:
    parts = [contents(part) for part in (source.train, source.test)]
    return md5(repr([(images, labels.tolist()) for images, labels in parts]).encode())


def told_labels(part: Part) -> list[int]:
    """The labels that the images themselves tell."""
    if isinstance(part, Listed):
        return [round(np.asarray(Image.open(path)).mean() / 20) for path in part.files]
    return [int(image[0, 1].max()) for image in part.read()[0]]
