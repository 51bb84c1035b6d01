"""A study's files in a folder or an object store: what is saved is found, by one driver at a time."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.object_store_server import served
from tests.patience import until
from tuning.errors import Locked
from tuning.mirror import Claim, Mirror
from tuning.storage import JOURNAL, STUDY_FILE, Storage, studies

Address = Callable[[str], str]
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture(scope="module")
def object_store() -> Iterator[Address]:
    """An S3 server on loopback; called with a path in its one bucket it gives the address."""
    with pytest.MonkeyPatch.context() as patch, served(patch) as server:
        server.put("bucket", {"there": b""})
        yield lambda path: server.address(f"bucket/{path}")


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    place = str(tmp_path) if request.param == "folder" else request.getfixturevalue("object_store")(tmp_path.name)
    return Storage(place, "study")


@pytest.fixture
def remote(object_store: Address, tmp_path: Path) -> Storage:
    return Storage(object_store(tmp_path.name), "study")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, this process finds itself on another machine, as far as its cache tells."""
    machines = itertools.count()
    return lambda: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine{next(machines)}"))


def write(storage: Storage, **files: str) -> None:
    storage.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (storage.folder / f"{name}.{'jsonl' if name == 'journal' else 'json'}").write_text(text)


def test_a_checkpoint_is_found_until_it_is_removed(storage: Storage, elsewhere: Callable[[], None]) -> None:
    name = "trials/trial_0003/best.safetensors"
    assert not storage.exists(name)
    storage.save(name, TENSORS, {"epoch": 2})
    if storage.remote:
        assert not (storage.folder / name).exists(), "workers' disks would fill"
        elsewhere()
    tensors, meta = storage.load(name)
    assert torch.equal(tensors["weight"], TENSORS["weight"])
    assert meta == {"epoch": 2}
    storage.save(name, TENSORS, {"epoch": 3})
    assert storage.load(name)[1] == {"epoch": 3}
    storage.save("trials/trial_0003/state.safetensors", TENSORS, {})
    storage.save("trials/trial_0004/state.safetensors", TENSORS, {})
    storage.remove("trials/trial_0003/state.safetensors")
    assert storage.exists(name)
    storage.remove("trials/trial_0003")
    storage.remove("trials/trial_0003")
    assert not storage.exists(name)
    assert storage.exists("trials/trial_0004/state.safetensors")


def test_studies_are_those_with_a_description(storage: Storage) -> None:
    assert studies(storage.results_dir) == {}
    for name in ("first", "second", "unstarted"):
        own = Storage(storage.results_dir, name)
        write(own, **({"study": "{}"} if name != "unstarted" else {"other": "{}"}))
        for path in own.folder.iterdir():
            own.send(path.name)
    assert list(studies(storage.results_dir)) == ["first", "second"]


def test_a_study_is_named_without_what_its_address_needs() -> None:
    assert str(Storage("s3://bucket/results/?scheme=http", "a")) == "s3://bucket/results/a?scheme=http"


def test_a_new_machine_gets_all_and_one_that_is_ahead_keeps_its_own(
    remote: Storage, elsewhere: Callable[[], None]
) -> None:
    write(remote, study="{}", journal="1\n2\n")
    for name in (STUDY_FILE, JOURNAL):
        remote.send(name)
    write(remote, study='{"new": 1}', journal="1\n2\n3\n")
    remote.pull()
    assert (remote.folder / JOURNAL).read_text() == "1\n2\n3\n"
    assert remote.in_step()
    assert not remote.holds_all()
    elsewhere()
    assert not remote.in_step()
    remote.pull()
    assert (remote.folder / JOURNAL).read_text() == "1\n2\n"
    assert (remote.folder / STUDY_FILE).read_text() == "{}"
    write(remote, study="{}", journal="1\n2\nother\n")
    remote.send(JOURNAL)
    write(remote, study="stale", journal="1\n2\n3\n")
    remote.pull()
    assert (remote.folder / JOURNAL).read_text() == "1\n2\nother\n"
    assert (remote.folder / STUDY_FILE).read_text() == "{}"


def test_a_second_driver_is_refused_until_the_first_lets_go_or_is_dead_for_long(
    remote: Storage, elsewhere: Callable[[], None]
) -> None:
    first = Claim(remote)
    elsewhere()
    with pytest.raises(Locked, match=rf"'study' is being run by process {os.getpid()} on .*since 20"):
        Claim(remote)
    assert len(remote.listing(".drivers")) == 1, "who is refused leaves nothing"
    first.release()
    second = Claim(remote, lease=2.0)  # not released, as if killed
    time.sleep(3.5)  # the store's times are whole seconds
    elsewhere()
    third = Claim(remote, lease=2.0)
    with pytest.raises(Locked):
        second.renew()
    third.renew()


def test_a_killed_driver_of_this_machine_is_no_obstacle(remote: Storage) -> None:
    Claim(remote)
    Claim(remote).release()
    assert not remote.listing(".drivers")


def test_a_mirror_sends_what_changes_and_removes_what_is_useless_after_it(remote: Storage) -> None:
    write(remote, study="{}", journal="1\n")
    remote.save("trials/trial_0001/best.safetensors", TENSORS, {})
    mirror = Mirror(remote)
    mirror.remove("trials/trial_0001")
    write(remote, journal="1\n2\n")
    until(lambda: not remote.exists("trials/trial_0001/best.safetensors"), 30)
    assert remote.holds_all()
    assert remote.read(STUDY_FILE) == b"{}"
    write(remote, journal="1\n2\n3\n")
    mirror({"event": "done"}, {})
    mirror.close()
    assert remote.holds_all()
    assert not remote.listing(".drivers")


def test_a_driver_whose_study_went_on_elsewhere_meanwhile_does_not_begin(remote: Storage) -> None:
    write(remote, study="{}", journal="1\nelsewhere\n")
    remote.send(JOURNAL)
    write(remote, study="{}", journal="1\nhere\n")
    with pytest.raises(Locked, match="has just been run elsewhere; start again"):
        Mirror(remote)
    assert not remote.listing(".drivers")


def test_a_driver_that_was_taken_for_dead_stops_at_its_next_event(
    remote: Storage, elsewhere: Callable[[], None]
) -> None:
    write(remote, study="{}", journal="1\n")
    mirror = Mirror(remote)
    mirror.claim.lease = 2.0  # less than the pause between two passes: it seems frozen
    time.sleep(3.5)
    elsewhere()
    Claim(remote, lease=2.0)

    def stopped() -> bool:
        try:
            mirror({"event": "report"}, {})
        except Locked:
            return True
        return False

    until(stopped, 30)
    mirror.close()
    assert not remote.exists(JOURNAL), "what it knows is of no more use"


def test_saving_outlasts_a_store_that_is_away_for_some_seconds(object_store: Address, tmp_path: Path) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    storage = Storage(f"s3://bucket/{tmp_path.name}?endpoint_override={host}:{port}&scheme=http&region=us-east-1", "s")
    server.stop()
    saving = threading.Thread(target=storage.save, args=("trials/trial_0000/best.safetensors", TENSORS, {}))
    saving.start()
    time.sleep(10)  # PyArrow by itself gives up after about 4
    assert saving.is_alive()
    again = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
    again.start()
    saving.join(60)
    assert not saving.is_alive()
    assert storage.exists("trials/trial_0000/best.safetensors")
    again.stop()


LAUNCH = ("--model", "resnet20", "--epochs", "2", "--cpus-per-trial", "1", "--seed", "1")
QUICK = ("precision=float32", "memory_format=contiguous", "train_images=200")


def launch(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command line on a machine of its own: no file in common with others."""
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = [sys.executable, "-m", "tuning.launch", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.long
def test_a_study_in_an_object_store_goes_on_on_another_machine(object_store: Address, tmp_path: Path) -> None:
    place = object_store(f"{tmp_path.name}/results")
    settings = [word for setting in QUICK for word in ("--set", setting)]
    first = launch(
        tmp_path / "one", *LAUNCH, *settings, "--trials", "3", "--name", "moving", "--results-dir", place
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    bare = place.partition("?")[0]
    assert f"{bare}/moving" in first.stdout
    storage = Storage(place, "moving")
    assert {"study.json", "journal.jsonl", "best.safetensors", "best.json", "report.html", "log.txt"} <= set(
        storage.listing()
    )
    assert not storage.listing(".drivers")
    again = launch(
        tmp_path / "two", *LAUNCH, *settings, "--trials", "3", "--name", "moving", "--results-dir", place
    )  # fmt: skip
    assert again.returncode == 2
    assert "there is a study 'moving' in s3://" in again.stderr
    second = launch(tmp_path / "two", "--resume", "moving", "--results-dir", place, "--trials", "+2")
    assert second.returncode == 0, second.stderr
    events = [json.loads(line.partition(b" ")[2]) for line in storage.read(JOURNAL).splitlines()]
    assert sorted(e["trial"] for e in events if e["event"] == "start") == [0, 1, 2, 3, 4]
    assert storage.exists("trials/trial_0000/best.safetensors"), "the published recipe's"
    storage.remove(STUDY_FILE)
    gone = launch(tmp_path / "two", *LAUNCH, *settings, "--trials", "3", "--name", "moving", "--results-dir", place)
    assert gone.returncode == 2
    assert "that has not come there: send it with --resume moving" in gone.stderr
    back = launch(tmp_path / "two", "--resume", "moving", "--results-dir", place)
    assert back.returncode == 0
    assert storage.exists(STUDY_FILE)
    unknown = launch(tmp_path / "two", "--resume", "nothing", "--results-dir", place)
    assert unknown.returncode == 2
    assert "there are: moving" in unknown.stderr


@pytest.mark.parametrize(
    ("results", "code", "said"),
    [
        ("ftp://bucket/results", 2, "'ftp://bucket/results' is no address of an object store"),
        ("s3://other/results", 2, "there is no bucket of s3://other/results"),
        ("s3://bucket/results?endpoint_override=127.0.0.1:9&scheme=http&region=x", 3, "cannot be reached"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_in_one_line(
    object_store: Address, tmp_path: Path, results: str, code: int, said: str
) -> None:
    if "other" in results:
        results += "?" + urllib.parse.urlparse(object_store("x")).query
    done = launch(tmp_path, *LAUNCH, "--trials", "3", "--results-dir", results)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr, done.stderr
