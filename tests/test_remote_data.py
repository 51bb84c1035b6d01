"""A data set in a bucket is fetched once, whole, again where it changed, and is the same on every machine."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import datasets
from datasets import __main__ as cli
from datasets import layout, object_store, remote
from tests.object_store_server import Server, served
from tests.source_cases import CASES, MOVABLE, Files, below, idx_files, pets, picture
from tuning import options
from tuning.changes import anchored, differences

ROOT = Path(__file__).parent.parent
TABLE: Files = {
    **{f"images/{n}.png": picture(n % 2, "PNG") for n in range(10)},
    "table.csv": b"".join(b"images/%d.png,%s\n" % (n, (b"cat", b"dog")[n % 2]) for n in range(10)),
}
READ = "import datasets, sys; print(datasets.load(sys.argv[1], root='data', image_size=8).fingerprint)"
UNPICKLE = """
import pickle, sys
splits = pickle.load(open(sys.argv[1], "rb"))
print(splits.fingerprint, splits.train.images.sum(), splits.test.images.sum())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch, served(patch) as running:
        yield running


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has fetched nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def load(name: str, root: str = "data", **more: float) -> datasets.Splits:
    """In a process that has asked for nothing yet."""
    remote._fetched.cache_clear()
    return datasets.load(name, root=root, image_size=8, **more)  # type: ignore[arg-type]


def run(code: str, *argv: str, cache: Path) -> str:
    """In another process, on a machine with another cache."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def copies(machine: Path) -> list[Path]:
    return sorted(path for path in (machine / "cache").rglob("*") if path.is_file() and "data" in path.parts)


@pytest.mark.parametrize(("place", "files", "rest"), [
    ("one/photos", pets(10), {".DS_Store": b"x", "cat/.hidden.png": b"x"}),
    ("two/photos/table.csv", TABLE, {"images/unused.png": b"x", "big.tar": b"x"}),
], ids=["folder", "table"])  # fmt: skip
def test_it_reads_as_from_a_folder_and_is_fetched_once(
    place: str, files: Files, rest: Files, server: Server, machine: Path
) -> None:
    bucket = place.split("/")[0] + "-reads"
    server.put(f"{bucket}/photos", {**files, **rest})
    address = server.address(place.replace(place.split("/")[0], bucket))
    local = machine / "photos"
    for name, content in files.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(content)
    server.requests.clear()
    splits = load(address)
    expected = load(str(local / Path(place).name if place.endswith(".csv") else local))
    assert sorted(server.fetched()) == sorted(f"photos/{name}" for name in files)
    assert (splits.name, splits.classes) == (expected.name, expected.classes)
    assert splits.fingerprint == expected.fingerprint
    server.requests.clear()
    assert load(address).fingerprint == expected.fingerprint
    assert server.fetched() == []


def test_what_changed_in_the_bucket_is_fetched_again_and_what_went_goes(server: Server, machine: Path) -> None:
    address = server.put("changing/photos", pets(10))
    before = load(address)
    server.files.delete_file("changing/photos/dog/9.png")
    server.put("changing/photos", {"cat/0.png": picture(9, "PNG"), "cat/new.png": picture(0, "PNG")})
    server.requests.clear()
    after = load(address)
    assert sorted(server.fetched()) == ["photos/cat/0.png", "photos/cat/new.png"]
    assert after.fingerprint != before.fingerprint
    names = {path.name for path in copies(machine) if path.parent.name == "dog"}
    assert names == {f"{n}.png" for n in range(9)}
    (victim,) = [path for path in copies(machine) if path.match("cat/5.png")]
    victim.write_bytes(b"torn")
    server.requests.clear()
    assert load(address).fingerprint == after.fingerprint
    assert server.fetched() == ["photos/cat/5.png"]


def test_a_changed_table_takes_its_images_along(server: Server) -> None:
    address = server.put("tables/photos", TABLE).replace("photos", "photos/table.csv")
    load(address)
    eels = [f"images/eel{n}.png" for n in range(5)]
    more = "".join(f"{eel},eel\n" for eel in eels).encode()
    server.put("tables/photos", {"table.csv": TABLE["table.csv"] + more})
    with pytest.raises(ValueError, match=r"table.csv: 5 of 15 images are missing, the first is .*eel0.png in line 11"):
        load(address)
    server.put("tables/photos", {eel: picture(2, "PNG") for eel in eels})
    server.requests.clear()
    assert load(address).classes == ("cat", "dog", "eel")
    assert sorted(server.fetched()) == [f"photos/{eel}" for eel in eels]
    server.put("tables/photos", {"table.csv": TABLE["table.csv"] + b"../x.png,eel\n"})
    with pytest.raises(ValueError, match=r"line 11: .*x.png does not lie beside the table"):
        load(address)


@pytest.mark.parametrize("way", ["itself", "beside others"])
def test_a_set_with_a_name_is_found_among_others(way: str, server: Server, machine: Path) -> None:
    place = f"named-{way.replace(' ', '-')}/data"
    case = CASES["kmnist"]
    server.put(f"{place}/{case.own}", case.files)
    server.put(
        place, below("imagenet/train/cat", {"1.JPEG": b"x"}) | below("FashionMNIST/raw", idx_files("fashion_mnist"))
    )
    address = server.address(f"{place}/{case.own}" if way == "itself" else place)
    server.requests.clear()
    splits = load("kmnist", address)
    assert {Path(name).name for name in server.fetched()} == set(case.files)
    (outer, *_) = [request for request in server.requests if "list-type" in request]
    assert "delimiter=/" in outer, "other sets beside it are not listed through"
    assert splits.fingerprint == load("kmnist", str(case.write(machine / "local"))).fingerprint
    with pytest.raises(ValueError, match=r"s3://named.* holds no cifar10; looked for data_batch_1 and 6 more in "):
        load("cifar10", address)
    server.requests.clear()
    assert len(load("digits", address).classes) == 10
    assert server.requests == []


def test_an_archive_is_fetched_and_unpacked(server: Server) -> None:
    case = CASES["cifar10"]
    assert case.archive
    address = server.put("archives/data", dict([case.archive]))
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz is damaged .*md5"):  # a tiny one
        load("cifar10", address)


@pytest.mark.parametrize("name", [*MOVABLE])
def test_a_layout_chooses_the_files_that_its_reader_reads(name: str) -> None:
    case = CASES[name]
    reader = datasets.find(name, "data")._reader
    known: layout.Layout = reader.layout(name)
    paths = {*below(case.own, case.files), "other/train/x.png", "LICENSE"}
    assert set(layout.chosen(paths, known)) == {*below(case.own, case.files)}
    assert {path.split("/")[0] for path in below(case.own, case.files)} <= layout.begins(known)
    own = set(layout.chosen(case.files, known))
    assert own == set(case.files)
    assert (
        layout.chosen({*case.files} - {sorted(own)[0]}, known) == [] or name in ("imagenet", "voc2012") or known.parts
    )
    if case.archive:
        assert layout.chosen({case.archive[0], "LICENSE"}, known) == [case.archive[0]]


def test_another_machine_fetches_the_same(server: Server, machine: Path) -> None:
    address = server.put("nodes/photos", pets(10))
    streamed, kept = load(address, store_share=0), load(address)
    assert kept.fingerprint != streamed.fingerprint
    for name, splits in (("kept", kept), ("streamed", streamed)):
        (machine / name).write_bytes(pickle.dumps(splits))
        assert str(machine / "cache").encode() not in pickle.dumps(splits.read_test)
    sums = f"{kept.train.images.sum()} {kept.test.images.sum()}"
    (machine / "cache").rename(machine / "unreachable")
    other = machine / "other"
    server.requests.clear()
    assert run(UNPICKLE, str(machine / "kept"), cache=other) == f"{kept.fingerprint} {sums}"
    assert len(server.fetched()) == 20
    server.requests.clear()
    assert run(UNPICKLE, str(machine / "streamed"), cache=other) == f"{streamed.fingerprint} {sums}"
    assert server.requests == [], "its digest tells that all is there"
    server.put("nodes/photos", {"cat/0.png": picture(9, "PNG")})
    for name in ("kept", "streamed"):
        said = run(UNPICKLE, str(machine / name), cache=machine / "third")
        assert said == (
            f"ValueError: {address} is no longer what it was when the study read it; put the old files back, "
            "or start another study"
        )


def test_a_fetch_that_was_killed_goes_on(server: Server, machine: Path) -> None:
    address = server.put("killed/photos", pets(40))
    process = subprocess.Popen([sys.executable, "-c", READ, address], cwd=ROOT)
    try:
        while len(done := [p for p in copies(machine) if p.suffix == ".png"]) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    done = [p for p in copies(machine) if p.suffix == ".png"]
    assert 10 <= len(done) < 80
    server.requests.clear()
    splits = load(address)
    assert len(splits.train) + len(splits.val) + len(splits.test) == 80
    assert len({*server.fetched()}) <= 80 - len(done)
    assert not {"/".join(path.parts[-3:]) for path in done} & {*server.fetched()}


def test_processes_at_once_fetch_once(server: Server, machine: Path) -> None:
    address = server.put("crowd/photos", pets(10))
    server.requests.clear()
    command = [sys.executable, "-c", READ, address]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1] != ""
    assert len(server.fetched()) == 20


def test_what_is_wrong_with_an_address_is_said_in_a_line(server: Server, machine: Path) -> None:
    server.put("wrong/odd", {"cat/1.png": b"x", "cat/1.png/2.png": b"x"})
    with pytest.raises(ValueError, match="there is no bucket of s3://nowhere/x"):
        load(server.address("nowhere/x"))
    with pytest.raises(ValueError, match="there is nothing at s3://wrong/photos"):
        load(server.address("wrong/photos"))
    with pytest.raises(ValueError, match="there is nothing at s3://wrong/odd/t.csv"):
        load(server.address("wrong/odd/t.csv"))
    with pytest.raises(ValueError, match="s3://wrong/odd.* cannot be kept in .* free the disk, or set XDG_CACHE_HOME"):
        load(server.address("wrong/odd"))
    with pytest.raises(ValueError, match=r"s3://b has 1,073,741,824.0 GiB to fetch, but .* has [\d,.]+ GiB free"):
        remote.check_room("s3://b", 2**60, machine)


def test_the_command_line_tells_of_a_bucket(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    address = server.put("told/photos", pets(10))
    remote._fetched.cache_clear()
    assert cli.main([address]) == 0
    assert capsys.readouterr().out.startswith(f"photos: {address}")
    assert cli.main(["http://bucket/photos"]) == 2
    assert "is no address of an object store; write s3://BUCKET/PATH" in capsys.readouterr().err
    start = time.monotonic()
    assert cli.main(["s3://told/photos?endpoint_override=127.0.0.1:9&scheme=http"]) == 3
    assert re.fullmatch(
        r"error: s3://told\S* cannot be reached .*connect.*check the network.*\n", capsys.readouterr().err
    )
    assert time.monotonic() - start < 30


def test_images_of_one_address_are_the_same_array(server: Server) -> None:
    address = server.put("arrays/photos", pets(10))
    one, other = load(address), load(address)
    assert np.array_equal(one.train.images, other.train.images)
    assert isinstance(one.train.pixels, np.memmap)
    assert isinstance(other.train.pixels, np.memmap)
    assert one.train.pixels.filename == other.train.pixels.filename


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://b/x", "no address of an object store"),
        ("s3://", "no address"),
        ("s3:///x", "no address"),
        ("s3://me:secret@b/x", "keys in an address of b"),
        ("s3://b/x?secret_key=1", "has 'secret_key' after its"),
        ("gs://b?region=x", "has 'region' after its '\\?'; that may be endpoint_override, scheme"),
    ],
)
def test_addresses_are_checked_without_a_store(text: str, message: str) -> None:
    for check in (
        object_store.parsed,
        lambda text: datasets.check(text, "data"),
        lambda text: datasets.check("mnist", text),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            check(text)
        assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (
            "When x: AWS Error ACCESS_DENIED during GetObject operation: No",
            ConnectionError,
            "denied .ACCESS_.*AWS_ACCESS",
        ),
        ("When x: AWS Error UNKNOWN (HTTP status 403) during HeadObject operation", ConnectionError, "is denied"),
        (
            "When x: AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: (Request ID: 1)",
            ValueError,
            "no bucket of",
        ),
        (
            "When x: AWS Error SLOW_DOWN during GetObject operation: Reduce",
            ConnectionError,
            "cannot be reached .SLOW_DOWN",
        ),
    ],
)
def test_what_a_store_says_becomes_one_line(said: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught, object_store.errors("s3://b/x"):
        raise OSError(said)
    assert "Request ID" not in str(caught.value)
    assert "s3://b/x" in str(caught.value)


def test_the_parts_of_an_address() -> None:
    known = object_store.parsed("s3://bucket/a b/c@d/?region=x")
    assert (known.path, known.name, known.options) == ("bucket/a b/c@d", "c@d", {"region": "x"})
    assert object_store.parsed("gs://anonymous@bucket").anonymous
    assert datasets.title("s3://bucket/pets.csv?scheme=http") == "pets"
    assert datasets.check("s3://bucket/pets.csv", "data") == "table"
    assert datasets.anchored("s3://bucket/data") == "s3://bucket/data"


def test_a_study_keeps_its_addresses_as_they_are() -> None:
    args = options.parse(
        ["--model", "resnet20", "--dataset", "s3://b/my photos/?scheme=http", "--data-dir", "gs://b/data"]
    )
    spec, _ = options.request(args)
    assert spec.name.startswith("resnet20-my-photos-2")
    kept = anchored(spec)
    assert (kept.dataset, kept.data_dir) == ("s3://b/my photos/?scheme=http", "gs://b/data")
    assert differences(kept, {"dataset": kept.dataset, "data_dir": kept.data_dir}) == []
    with pytest.raises(ValueError, match="no address of an object store"):
        options.request(options.parse(["--model", "resnet20", "--data-dir", "ftp://b/data"]))
