"""What is in a data set, in words: a few lines for each thing that a user should know before a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets import decode, store, summary
from datasets.images import Images, Splits
from datasets.source import Listed, Source

PARTS = {"train": "training", "val": "validation", "test": "test"}
FIRST_CLASSES = 10  # that are named
MIB = 2**20


def parts_of(splits: Splits) -> dict[str, Images]:
    """All three, the test part being read for it."""
    return {"train": splits.train, "val": splits.val, "test": splits.test}


def lines(splits: Splits, source: Source, root: Path) -> dict[str, list[str]]:
    """Title -> lines. Files are named as they are seen from `root`."""
    parts = parts_of(splits)
    train, val, test = (f"{len(part):,}" for part in parts.values())
    taken = "" if source.val else ", taken from the training images at random"
    return {
        "classes": [_named(splits.classes)],
        "images": [f"{train} to train, {val} to validate{taken}", f"{test} to test, which no search sees"],
        "size": _size(splits, source),
        "notes": [*dict.fromkeys((*splits.notes, *splits.test.notes))] or ["no image is left out, all could be read"],
        "duplicates": [*_duplicates(parts, source, root)],
        "labels": _labels(parts) if splits.task == "multi" else [],
        "pixels": _pixels(splits),
        "noise": _noise(splits),
        "decoded": _kept(parts),
        "fingerprint": [splits.fingerprint],
    }


def _named(classes: Sequence[str]) -> str:
    more = ", ..." if len(classes) > FIRST_CLASSES else ""
    return f"{len(classes):,}: {', '.join(classes[:FIRST_CLASSES])}{more}"


def _size(splits: Splits, source: Source) -> list[str]:
    """Of the images that a study sees, and of the files that they come from."""
    side = splits.image_size
    seen = f"{side} x {side} px, {'1 channel (gray)' if splits.channels == 1 else '3 channels (red, green, blue)'}"
    if source.native_size:
        native = source.native_size
        return [seen + (", as they come" if native == side else f", resized from {native} x {native}")]
    assert isinstance(source.train, Listed)
    shorter = np.array([*_shorter_sides(source.train.files)])
    lowest, median, highest = np.quantile(shorter, (0, 0.5, 1), method="nearest").tolist()
    how = "all of each file, squeezed" if source.train.whole else "the central square of each file, resized"
    sides = f"{lowest} px" if lowest == highest else f"{lowest} to {highest} px, median {median}"
    return [f"{seen}: {how}", f"shorter side of the files: {sides} ({_of(len(shorter), len(source.train.files))})"]


def _of(part: int, whole: int) -> str:
    return "all looked at" if part == whole else f"{part:,} of {whole:,} looked at"


def _shorter_sides(files: Sequence[Path]) -> Iterator[int]:
    """Of a sample of the files."""
    for path in files[:: max(len(files) // decode.SAMPLE, 1)]:
        try:
            yield min(decode.check_header(path))
        except decode.Unreadable:  # is among those left out
            continue


def _duplicates(parts: Mapping[str, Images], source: Source, root: Path) -> Iterator[str]:
    """Images that are there twice: between parts they make a score look better than it is."""
    if not all(isinstance(part.pixels, np.ndarray) for part in parts.values()):
        yield "not looked for, because the images are not kept decoded"
        return
    found = summary.repeats(parts)
    for repeats in found:
        same = repeats.earlier == repeats.later
        another = "an earlier one" if same else f"a {PARTS[repeats.earlier]} image"
        relabelled = f", {repeats.relabelled:,} with another label" if repeats.relabelled else ""
        yield (
            f"{repeats.count:,} of {len(parts[repeats.later]):,} {PARTS[repeats.later]} images equal {another}"
            f" to the pixel{relabelled}"
        )
        first, second = (
            _where(which, parts[which], index, source, root)
            for which, index in zip((repeats.earlier, repeats.later), repeats.example, strict=True)
        )
        yield f"   such as {first} and {second}"
    if any(repeats.earlier != repeats.later for repeats in found):
        yield "a score on such images looks better than it is: remove the copies"
    if not found:
        yield "none: no two images are equal to the pixel inside train, or in two of train, validation and test"


def _where(which: str, part: Images, index: int, source: Source, root: Path) -> str:
    """The file of an image, or its number among those of a packed part."""
    origin = "train" if which == "val" and source.val is None else which
    row = int(part.rows[index])
    lying = getattr(source, origin)
    if not isinstance(lying, Listed):
        return f"number {row:,} of the {PARTS[origin]} file"
    path = lying.files[row]
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _labels(parts: Mapping[str, Images]) -> list[str]:
    """How many an image has, where it may have several."""
    labels = np.concatenate([part.labels for part in parts.values()])
    counts = summary.labels_per_image(labels)
    mean = (labels == 1).sum() / len(labels)
    result = [f"{mean:.2f} per image: " + ", ".join(f"{images:,} with {count}" for count, images in counts.items())]
    if unsure := int((labels == -1).sum()):
        result.append(f"{unsure:,} hard to tell: neither right nor wrong, they do not count")
    return result


def _pixels(splits: Splits) -> list[str]:
    mean, std = (" ".join(f"{value:.3f}" for value in values) for values in (splits.mean, splits.std))
    return [
        f"mean {mean}, deviation {std} of the training images, scaled to 0..1",
        "networks get them with the mean taken off and divided by the deviation",
    ]


def _noise(splits: Splits) -> list[str]:
    """How much of a difference between two scores is the choice of the images."""
    if splits.task == "multi":
        return ["scores are mean average precision, whose noise depends on the predictions: the report tells it"]
    at = f"at 95 % (at {100 * summary.TYPICAL_ACCURACY:.0f} % accuracy)"
    return [
        f"{len(part):,} {PARTS[which]} images: +-{100 * summary.noise(len(part)):.1f} points {at}"
        for which, part in (("val", splits.val), ("test", splits.test))
    ] + ["so far off may a score be by the choice of these images alone"]


def _kept(parts: Mapping[str, Images]) -> list[str]:
    """Where the decoded images lie; train and validation may share a store."""
    stores = {_store_of(part) for part in parts.values() if hasattr(part.pixels, "filename")}
    if not stores:
        return ["not kept decoded: the files are read again in each epoch"]
    size = sum(path.stat().st_size for place in stores for path in place.iterdir())
    names = sorted(place.parent.name for place in stores)
    return [f"{size / MIB:,.1f} MiB in {store.folder()}", *(f"   {name}" for name in names)]


def _store_of(part: Images) -> Path:
    return Path(part.pixels.filename).parent  # type: ignore[union-attr]
