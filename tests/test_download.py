"""Sets that are missing come from their archive or the network, whole and checked, or one line says what to do."""

from __future__ import annotations

import gc
import io
import os
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import EMNIST, MNIST, QMNIST, FashionMNIST

from datasets import cifar, imagenette, mnist, svhn, voc
from tests.source_cases import CASES, HOST, Files, below, fingerprint, idx_files, md5, put

# urllib of Python 3.11 leaves the sockets of refused requests to the garbage collector
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"), pytest.mark.usefixtures("_collected")]

ARCHIVES = [name for name, case in CASES.items() if case.archive]
DOWNLOADED = {
    **dict.fromkeys(mnist.SETS, mnist), **dict.fromkeys(cifar.CLASSES, cifar), "svhn": svhn,
    **dict.fromkeys(imagenette.SIZES, imagenette), "voc2012": voc,
}  # fmt: skip


@pytest.fixture(scope="module")
def _collected() -> Iterator[None]:
    """Those sockets are gone before the tests of other files, which ignore no warning."""
    yield
    gc.collect()


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """What it holds is served for every address that ends in that name; all else is 404, and no packet leaves."""
    served: Files = {}

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = served.get(self.path.split("/")[-1])
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET" and content:
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        urllib.request.install_opener(None)  # the one in use may have read the old proxies
        yield served
        server.shutdown()
        thread.join()
    urllib.request.install_opener(None)


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_archive_of_a_set_is_unpacked(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert case.archive
    source = case.read(put(tmp_path / "packed", dict([case.archive])))
    assert fingerprint(source) == fingerprint(case.read(case.write(tmp_path / "unpacked")))
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {case.archive[0], case.own.split("/")[0]}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_damaged_archive_is_refused_and_kept(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert case.archive
    archive = tmp_path / case.archive[0]
    archive.write_bytes(case.archive[1][:-100])
    with pytest.raises(ValueError, match=f"{archive} is damaged or cut short"):
        case.read(tmp_path)
    assert archive.read_bytes() == case.archive[1][:-100]


@contextmanager
def read_only(files: Files) -> Iterator[Path]:
    """A folder that this process may read and not write, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        root, me = put(Path(name), files), os.geteuid()
        root.chmod(0o555)
        if me == 0:
            os.seteuid(65534)  # nobody
        try:
            yield root
        finally:
            os.seteuid(me)
            root.chmod(0o755)


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_in_a_folder_without_write_permission_is_to_be_unpacked_by_hand(name: str) -> None:
    case = CASES[name]
    assert case.archive
    message = f"{case.archive[0]} cannot be unpacked .*Permission denied.*--data-dir"
    with read_only(dict([case.archive])) as root, pytest.raises(ValueError, match=message):
        case.read(root)


@pytest.mark.parametrize("name", ["cifar10", "svhn", "voc2012"])
def test_a_set_in_a_folder_without_write_permission_is_read(name: str, tmp_path: Path) -> None:
    expected = fingerprint(CASES[name].read(CASES[name].write(tmp_path)))
    with read_only(below(CASES[name].own, CASES[name].files)) as root:
        assert fingerprint(CASES[name].read(root)) == expected


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_failing_download_says_what_to_put_where(name: str, tmp_path: Path, internet: Files) -> None:
    root = tmp_path / "data"
    message = f"is not in {root} and could not be downloaded .*; put .* there"
    with pytest.raises(ConnectionError, match=message) as caught:
        DOWNLOADED[name].read(root, name)
    assert "\n" not in str(caught.value)
    assert ("apt-get" in str(caught.value)) == (name == "fashion_mnist")
    assert list(root.iterdir()) == []


def zipped(files: Files) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in below("gzip", files).items():
            archive.writestr(name, content)
    return file.getvalue()


EMNIST_ZIP = zipped(idx_files("emnist_letters"))


def tiny(kind: type[MNIST], **known: object) -> type[MNIST]:
    """torchvision's class, which names a folder after itself, with other addresses and checksums."""
    return type(kind.__name__, (kind,), known)


def checksums(name: str, address: str = "") -> list[tuple[str, str]]:
    return [(address + file, md5(content)) for file, content in idx_files(name).items()]


QMNIST_SUMS = checksums("qmnist", f"{HOST}/")
IDX_DOWNLOADS = {  # torchvision's class, what there is to download, the folder that comes of it
    "fashion_mnist": (
        tiny(FashionMNIST, mirrors=[f"{HOST}/"], resources=checksums("fashion_mnist")),
        idx_files("fashion_mnist"), "FashionMNIST",
    ),
    "qmnist": (
        tiny(QMNIST, resources={"train": QMNIST_SUMS[:2], "test": QMNIST_SUMS[2:]}), idx_files("qmnist"), "QMNIST",
    ),
    "emnist_letters": (
        tiny(EMNIST, url=f"{HOST}/gzip.zip", md5=md5(EMNIST_ZIP)), {"gzip.zip": EMNIST_ZIP}, "gzip",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IDX_DOWNLOADS)
def test_idx_files_are_downloaded_and_checked(name: str, tmp_path: Path, internet: Files) -> None:
    kind, files, made = IDX_DOWNLOADS[name]
    internet |= files | {next(iter(files)): b"something else"}
    with pytest.raises(ConnectionError, match="corrupted"):
        mnist.fetched(tmp_path, name, kind)
    assert list(tmp_path.iterdir()) == []
    internet |= files
    mnist.fetched(tmp_path, name, kind)
    assert [path.name for path in tmp_path.iterdir()] == [made]
    source = mnist.read(tmp_path / made, name)
    assert fingerprint(source) == fingerprint(mnist.read(CASES[name].write(tmp_path / "other"), name))


def test_emnists_archive_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "gzip.zip").write_bytes(EMNIST_ZIP)
    assert mnist.fetched(tmp_path, "emnist_letters", IDX_DOWNLOADS["emnist_letters"][0])[0].parent == tmp_path / "gzip"


@pytest.mark.parametrize("name", [*ARCHIVES, "svhn"])
def test_a_download_is_checked_and_comes_whole(name: str, tmp_path: Path, internet: Files) -> None:
    case = CASES[name]
    served = case.files if name == "svhn" else {case.archive[0]: case.archive[1]} if case.archive else {}
    internet |= {known: content[:-10] for known, content in served.items()}
    with pytest.raises(ConnectionError, match="corrupted"):
        case.read(tmp_path)
    assert list(tmp_path.iterdir()) == []
    internet |= served
    source = case.read(tmp_path)
    assert fingerprint(source) == fingerprint(case.read(case.write(tmp_path / "other")))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    internet.clear()
    assert fingerprint(case.read(tmp_path)) == fingerprint(source)
