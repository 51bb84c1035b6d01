"""`python -m datasets`: the table of names, what it tells of one set, the sheet of augmentations, mistakes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets import __main__ as cli
from datasets import cifar, mnist, sheet, svhn, voc
from datasets.catalogue import CATALOGUE
from search_spaces.limits import LIMITS, Choice
from tuning.spec import HParams

ROOT = Path(__file__).parent.parent
WIDTH = len("fingerprint  ")
CLASSES = {name: kind.classes for name, kind in mnist.SETS.items()} | cifar.CLASSES
CLASSES |= {"svhn": svhn.CLASSES, "voc2012": voc.CLASSES}


def told(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The lines of each title, and the cells of each class."""
    _, facts, table = capsys.readouterr().out.split("\n\n", 2)
    lines: dict[str, list[str]] = {}
    title = ""
    for line in facts.splitlines():
        title = line[:WIDTH].strip() or title
        lines.setdefault(title, []).append(line[WIDTH:].strip())
    return lines, {line.split()[0]: line.split()[1:] for line in table.splitlines() if "█" in line}


def write(path: Path, value: int, side: int = 6) -> None:
    """An image with a pixel in one corner, so that a mirrored one would differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side + 2, 3), value, np.uint8)
    pixels[0, 1] = 255 - value
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cats and two dogs to train on, with copies inside train, and of it in val and test; one test file broken."""
    root = tmp_path_factory.mktemp("photos")
    for index, value in enumerate((0, 10, 20, 30, 30, 30)):
        write(root / f"train/cat/{index}.png", value)
    for index, value in enumerate((10, 120)):
        write(root / f"train/dog/{index}.png", value)
    for index, value in enumerate((140, 20)):
        write(root / f"val/cat/{index}.png", value)
    write(root / "val/dog/0.png", 160)
    for index in range(119):
        write(root / f"test/cat/{index:03}.png", 3 * (index % 40) + 1)  # each twice, which is not told
    write(root / "test/cat/119.png", 140)
    write(root / "test/dog/0.png", 0)
    (root / "test/dog/broken.png").write_bytes(b"no image")
    return root


# the table of names


def test_the_catalogue_names_every_data_set() -> None:
    assert set(CATALOGUE) == set(datasets.names())


@pytest.mark.parametrize("name", CLASSES)
def test_the_catalogue_counts_the_classes_that_are_read(name: str) -> None:
    assert CATALOGUE[name].classes == len(CLASSES[name])


def test_the_catalogue_counts_the_images_that_are_read() -> None:
    digits = datasets.load("digits", root="unused")
    facts = CATALOGUE["digits"]
    assert (len(digits.train) + len(digits.val), len(digits.test)) == (facts.train, facts.test)
    assert (len(digits.classes), facts.native) == (facts.classes, f"{digits.image_size} px gray")


def test_the_table_shows_every_name_with_its_facts_and_imports_no_torch() -> None:
    code = "import sys; from datasets.__main__ import main; main([]); assert not {'torch', 'sklearn'} & {*sys.modules}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for name, facts in CATALOGUE.items():
        row = next(index for index, line in enumerate(lines) if line.split(" ")[0] == name)
        described, *counts = (cell.strip() for cell in lines[row][len(name) :].split("  ") if cell)
        assert described == f"{facts.shows}, {facts.native}"
        assert counts == [f"{count:,}" for count in (facts.classes, facts.train, facts.test)]
        assert lines[row + 1].strip() == f"{facts.licence}: {facts.link}"
    assert "a folder with one folder of images per class, or a .csv file" in " ".join(done.stdout.split())


# what it tells of one set


def test_it_tells_all_of_a_folder(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(photos), "--data-dir", "unused"]) == 0
    lines, counts = told(capsys)
    assert lines["classes"] == ["2: cat, dog"]
    assert lines["images"] == ["8 to train, 3 to validate", "121 to test, which no search sees"]
    assert lines["size"] == [
        "6 x 6 px, 3 channels (red, green, blue): the central square of each file, resized",
        "shorter side of the files: 6 px (all looked at)",
    ]
    broken = photos / "test/dog/broken.png"
    assert lines["notes"][0].startswith(f"test: 1 of 122 images are left out, such as: {broken} is no JPEG")
    assert lines["duplicates"] == [
        "3 of 8 training images equal an earlier one to the pixel, 1 with another label",
        "such as train/cat/3.png and train/cat/4.png",
        "1 of 3 validation images equal a training image to the pixel",
        "such as train/cat/2.png and val/cat/1.png",
        "4 of 121 test images equal a training image to the pixel, 1 with another label",
        "such as train/cat/1.png and test/cat/003.png",
        "1 of 121 test images equal a validation image to the pixel",
        "such as val/cat/0.png and test/cat/119.png",
        "a score on such images looks better than it is: remove the copies",
    ]
    assert "labels" not in lines
    assert lines["noise"] == [
        "3 validation images: +-33.9 points at 95 % (at 90 % accuracy)",
        "121 test images: +-5.3 points at 95 % (at 90 % accuracy)",
        "so far off may a score be by the choice of these images alone",
    ]
    loaded = datasets.load(str(photos), root="unused")
    assert lines["fingerprint"][0] == loaded.fingerprint
    mean = np.mean(loaded.train.images / 255)
    assert lines["pixels"][0].startswith(f"mean {mean:.3f} {mean:.3f} {mean:.3f}, deviation ")
    assert counts["cat"] == ["6", "2", "120", "█" * 24]
    assert counts["dog"] == ["2", "1", "1", "█" * 8]


def test_it_tells_where_the_decoded_images_lie(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(photos)]) == 0
    head, *names = told(capsys)[0]["decoded"]
    store = Path(head.split(" MiB in ")[1])
    assert [name.split("-")[1] for name in names] == ["test", "train", "val"]
    size = sum(path.stat().st_size for name in names for path in (store / name).rglob("*") if path.name != "lock")
    assert head.startswith(f"{size / 2**20:.1f} MiB")


def test_digits_come_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["digits", "--val-fraction", "0.2", "--seed", "3", "--image-size", "12"]) == 0
    lines, counts = told(capsys)
    loaded = datasets.load("digits", root="unused", seed=3, val_fraction=0.2, image_size=12)
    assert {name: [int(cell) for cell in cells[:2]] for name, cells in counts.items()} == {
        str(label): [int((part.labels == label).sum()) for part in (loaded.train, loaded.val)] for label in range(10)
    }
    assert lines["size"] == ["12 x 12 px, 1 channel (gray), resized from 8 x 8"]
    assert lines["images"][0].endswith(" to validate, taken from the training images at random")
    assert lines["notes"] == ["no image is left out, all could be read"]
    assert lines["duplicates"][0].startswith("none: no two images are equal")
    assert lines["fingerprint"] == [loaded.fingerprint]


def test_many_classes_are_told_by_three(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(21):
        for index in range(3 + (number + 7) % 21):
            write(tmp_path / f"{number:02}/{index}.png", number + 10 * (index % 20))
    assert cli.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "21: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09, ...\n" in out.replace("  ", "").replace(" \n", "\n")
    rows = [line.split() for line in out.splitlines() if ": " in line and "█" in line]
    assert [row[:5] for row in rows] == [
        ["smallest:", "14", "1", "1", "1"], ["median:", "03", "9", "1", "3"], ["largest:", "13", "16", "2", "5"],
    ]  # fmt: skip


def test_of_several_labels_it_counts_each_and_gives_no_formula_for_the_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for index in range(40):
        write(tmp_path / f"{index}.png", 5 * index)
        rows.append(
            f"{index}.png,sea,sky" if index % 4 == 0 else f"{index}.png,sky" if index % 4 < 3 else f"{index}.png"
        )
    (tmp_path / "beach.csv").write_text("\n".join(rows))
    assert cli.main([str(tmp_path / "beach.csv")]) == 0
    lines, counts = told(capsys)
    assert lines["labels"] == ["1.00 per image: 10 with 0, 20 with 1, 10 with 2"]
    assert "mean average precision" in lines["noise"][0]
    assert "all of each file, squeezed" in lines["size"][0]
    assert [sum(map(int, counts[name][:3])) for name in ("sea", "sky")] == [10, 30]


# the sheet


@pytest.mark.parametrize(("suffix", "side"), [("png", 6), ("jpg", 6), ("png", 140)])
def test_the_sheet_shows_the_images_and_what_each_augmentation_makes_of_them(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, side: int
) -> None:
    path = tmp_path / f"sheet.{suffix}"
    assert cli.main([str(photos), "--sheet", str(path), "--image-size", str(side)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    shown = np.asarray(Image.open(path))
    factor = sheet.magnification(side)
    cell = side * factor
    assert factor == {6: 22, 140: 1}[side]
    assert shown.shape == (sheet.HEADER + 8 * (cell + sheet.GAP), sheet.place(11, cell), 3)
    train = datasets.load(str(photos), root="unused", image_size=side).train
    for row, index in enumerate([0, 6, 1, 7, 2, 3, 4, 5]):  # the first cat, the first dog, the second cat, ...
        top = sheet.HEADER + row * (cell + sheet.GAP)
        original = np.kron(train.images[index].transpose(1, 2, 0), np.ones((factor, factor, 1), np.uint8))
        left = sheet.place(0, cell)
        difference = np.abs(shown[top : top + cell, left : left + cell].astype(int) - original)
        assert difference.max() == 0 if suffix == "png" else np.median(difference) <= 2


def test_each_augmentation_changes_images_and_is_titled_with_its_setting() -> None:
    digits = datasets.load("digits", root="unused", image_size=32).train
    originals = digits.images[:8]
    columns, again, other = (list(cli._augmented(originals, seed)) for seed in (0, 0, 1))
    for column, setting in zip(columns, cli.AUGMENTATIONS, strict=True):
        ((name, value),) = setting.items()
        assert column.title == f"{name}=\n{value}"
        assert column.images.shape == originals.shape
        assert not np.array_equal(column.images, originals)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(columns, again, strict=True))
    assert not any(np.array_equal(a.images, b.images) for a, b in zip(columns, other, strict=True))


def test_the_sheet_has_every_augmentation_there_is() -> None:
    choices = {(n, v) for n in ("augmentation", "policy") for v in getattr(LIMITS[n], "values", ()) if v != "none"}
    assert isinstance(LIMITS["policy"], Choice)
    named = {item for setting in cli.AUGMENTATIONS for item in setting.items()}
    assert choices < named
    strengths = {name for name, _ in named - choices}
    assert strengths == {"jitter", "erasing", "cutout", "mixup", "cutmix"}
    assert all(getattr(HParams(lr=0.1), name) == 0 for name in strengths)


def test_gray_images_and_long_names_fit() -> None:
    pixels = np.arange(2 * 9, dtype=np.uint8).reshape(2, 1, 3, 3)
    drawn = np.asarray(sheet.draw(["x" * 500, "y"], [sheet.Column("original", pixels)]))
    side = 3 * sheet.magnification(3)
    assert side >= sheet.CELL
    assert drawn.shape[1] == sheet.MARGIN + side + sheet.GAP
    corner = drawn[sheet.HEADER, sheet.MARGIN]
    assert corner.tolist() == [0, 0, 0]
    assert (drawn[:, sheet.MARGIN - sheet.GAP : sheet.MARGIN] == 255).all()  # no name reaches the images


# mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["digitz"],
            "unknown data set 'digitz', and no folder or .csv file of that name here or in data; did you mean",
        ),
        (["no/such/folder"], "unknown data set 'no/such/folder', and no folder or .csv file of that name"),
        (
            ["digits", "--sheet", "no/such/folder/sheet.png"],
            "cannot write no/such/folder/sheet.png: there is no folder",
        ),
        (["digits", "--sheet", "sheet.gif"], "a sheet is written as .png, .jpg, .jpeg, got 'sheet.gif'"),
        (["digits", "--sheet", "sheet"], "a sheet is written as .png, .jpg, .jpeg, got 'sheet'"),
        (["--sheet", "sheet.png"], "--sheet needs the name of a data set"),
        (["digits", "--image-size", "0"], "--image-size must be from 1 to 2,048, got 0"),
        (["digits", "--val-fraction", "1"], "--val-fraction must be from 0.01 to 0.9, got 1.0"),
        (["digits", "--val-fraction", "nan"], "--val-fraction must be from 0.01 to 0.9, got nan"),
        (["digits", "--seed", "-1"], "--seed must be from 0 to 4,294,967,295, got -1"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_folder_is_no_file_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sheet.png").mkdir()
    assert cli.main(["digits", "--sheet", str(tmp_path / "sheet.png")]) == 2
    assert "it is a folder" in capsys.readouterr().err


def test_a_file_that_refuses_to_be_written_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["digits", "--sheet", "/proc/sheet.png"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "/proc/sheet.png" in err
    assert err.count("\n") == 1


def test_a_set_that_cannot_be_downloaded_gets_another_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    assert cli.main(["fashion_mnist", "--data-dir", str(tmp_path)]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: Fashion-MNIST is not in {tmp_path} and could not be downloaded")
