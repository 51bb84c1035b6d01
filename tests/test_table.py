"""Tables of images with one label or several are read, and what is wrong with one is named by its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets import table
from datasets.source import Listed, Source
from datasets.splits import stratified_split
from tests.source_cases import contents, put


def write_table(root: Path, text: str | bytes, images: int = 12) -> Path:
    put(root, {f"{n}.png": b"" for n in range(images)} | {"t.csv": text.encode() if isinstance(text, str) else text})
    return root / "t.csv"


def labels_of(source: Source) -> dict[str, set[str]]:
    """Names of classes by stem of file."""
    result = {}
    for part in (source.train, source.test):
        _, labels = contents(part)
        for path, row in zip(part.files, labels, strict=True):
            numbers = np.flatnonzero(row) if source.task == "multi" else [row]
            result[path.stem] = {source.classes[number] for number in numbers}
    return result


def test_a_table_of_one_label_each_may_have_a_header_blanks_and_absolute_paths(tmp_path: Path) -> None:
    rows = [f'"{n}.png", {("dog", "cat")[n % 2]}' for n in range(11)]
    lines = ["\ufeff", "Path,label", "", *rows, f"{tmp_path}/11.png,cat,,", ""]
    source = table.read(write_table(tmp_path, "\r\n".join(lines)), "t")
    assert (source.task, source.classes) == ("single", ("cat", "dog"))
    assert labels_of(source) == {str(n): {("dog", "cat")[n % 2]} for n in range(12)}
    assert contents(source.test)[1].tolist() == [0, 1]
    expected = stratified_split(np.array([1, 0] * 5 + [1, 0]), 0.2, 0, source.classes)[1]
    assert [int(path.stem) for path in source.test.files] == expected.tolist()
    assert isinstance(source.train, Listed)
    assert not source.train.whole


def test_a_table_of_several_labels_or_none_is_multi(tmp_path: Path) -> None:
    kinds = [{"cat"}, {"dog"}, {"cat", "eel"}, set[str]()]
    text = "".join(",".join([f"{n}.png", *sorted(kinds[n % 4])]) + "\n" for n in range(12))
    source = table.read(write_table(tmp_path, text), "t")
    assert (source.task, source.classes) == ("multi", ("cat", "dog", "eel"))
    assert labels_of(source) == {str(n): kinds[n % 4] for n in range(12)}
    assert isinstance(source.test, Listed)
    assert source.test.whole
    assert source.test.labels.shape == (len(source.test.files), 3)
    assert not set(source.train.files) & set(source.test.files)


def test_one_image_without_label_makes_a_table_multi(tmp_path: Path) -> None:
    text = "".join(f"{n}.png,{'cat' if n % 2 else 'dog'}\n" for n in range(10)) + "10.png\n11.png,\n"
    source = table.read(write_table(tmp_path, text), "t")
    assert source.task == "multi"
    assert {stem for stem, labels in labels_of(source).items() if not labels} == {"10", "11"}


GOOD = "0.png,cat\n1.png,cat\n2.png,dog\n3.png,dog\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv needs at least two classes, found none"),
        ("0.png,cat\n1.png,cat\n", "t.csv needs at least two classes, found cat"),
        ("0.png;cat\n1.png;dog\n", "t.csv needs at least two classes, found none"),
        (GOOD + "\nx.png,dog\ny.png,dog\n", "2 of 6 images are missing, the first is .*x.png in line 6"),
        (GOOD + "./1.png,dog\n", "t.csv has .*1.png in line 2 and again in line 5"),
        (GOOD + ",dog\n", "t.csv, line 5: no path before the label 'dog'"),
        (GOOD + '"4.png,dog\n', "t.csv, line 5: unexpected end of data"),
        (GOOD.encode() + b"4.png,caf\xe9\n", "t.csv is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        table.read(write_table(tmp_path, text), "t")
    assert str(tmp_path) in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read .*gone.csv .No such file"):
        table.read(tmp_path / "gone.csv", "gone")
