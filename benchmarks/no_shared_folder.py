"""A study whose hosts share no folder, but an object store: `python -m benchmarks.no_shared_folder`, as root.

Two network namespaces stand for the hosts, as in `link_cut`; each has a `/tmp` and a home folder of its own. Driver,
head and an S3 server (moto's) are on one, two cores to train on at the other; images and results lie in a bucket.
While the study runs the worker's Ray is killed and another host's takes its place, with an empty disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.kill_resume import ROOT, alive, descendants
from benchmarks.link_cut import ADDRESSES, HEAD, PORT, WORKER, hosts, on, ray_on
from benchmarks.losses import NAME, PATIENCE, begin, events_of, outcome, recovery, reports, show, wait
from tuning.storage import Storage
from tuning.trial import trial_name

TRIALS, S3_PORT, IMAGES = 4, 5577, 600
HOME = "/mnt"  # on each host
KEYS = {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "loopback"}


def address(path: str) -> str:
    return f"s3://bucket/{path}?endpoint_override={ADDRESSES[HEAD]}:{S3_PORT}&scheme=http&region=us-east-1"


def apart(host: str, disk: Path) -> list[str]:
    """The prefix of a command on a host with a `/tmp` and a home folder of its own, which sees no other's."""
    for name in ("tmp", "home"):
        (disk / name).mkdir(parents=True, exist_ok=True)
    mounts = f"mount --bind {disk}/tmp /tmp && mount --bind {disk}/home {HOME} && mount -t tmpfs none {disk.parent}"
    return [*on(host), "sh", "-c", f'{mounts} && export HOME={HOME} && cd && exec "$@"', "sh"]


@contextmanager
def object_store(inside: list[str]) -> Iterator[None]:
    """An S3 server with one bucket that holds a folder of images for each digit."""
    command = [*inside, sys.executable, "-m", "moto.server", "-H", ADDRESSES[HEAD], "-p", str(S3_PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(8)
        subprocess.run([*on(HEAD), sys.executable, "-m", "benchmarks.no_shared_folder", "fill"], cwd=ROOT, check=True)
        yield
    finally:
        for pid in (server.pid, *descendants(server.pid)):
            if alive({pid}):
                os.kill(pid, signal.SIGTERM)
        server.wait()


def fill() -> None:
    """Puts the images into the bucket; run on the head's host."""
    url = f"http://{ADDRESSES[HEAD]}:{S3_PORT}/bucket"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT"))
    digits = load_digits()
    with tempfile.TemporaryDirectory() as folder:
        photos = Storage(address(""), "photos")
        for index, (pixels, label) in enumerate(zip(digits.images[:IMAGES], digits.target, strict=False)):
            path = Path(folder, "image.png")
            Image.fromarray((pixels * 15.9).astype("uint8")).save(path)
            photos.write(f"{label}/{index:04d}.png", path.read_bytes())


def what_is_in_the_bucket(inside: list[str]) -> list[str]:
    """The files of the study there, asked for on the head's host."""
    folders = ["", *(f"trials/{trial_name(number)}/" for number in range(TRIALS))]
    script = (
        "from tuning.storage import Storage\n"
        f"study = Storage({address('results')!r}, {NAME!r})\n"
        f"print(*(folder + name for folder in {folders} for name in study.listing(folder)), sep=chr(10))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*inside, sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()


def study(disks: Path, driver: list[str], lose: Any) -> dict[str, Any]:
    """Runs one, loses the worker in the middle of it; tells what became of the study."""
    folder = disks / HEAD / "home"
    process = begin(
        folder, f"{ADDRESSES[HEAD]}:{PORT}", TRIALS, "--dataset", address("photos"), "--set", "batch_size=32",
        "--results-dir", address("results"), inside=driver,
    )  # fmt: skip
    try:
        wait(lambda: reports(events_of(folder)) >= 4, process)
        moment = time.time()
        lose()
        code = process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
    seconds, repeated = recovery(events_of(folder), moment)
    own = [str(path) for name in (WORKER, "another") for path in (disks / name).rglob("*") if NAME in path.parts]
    return {
        "exit code": code,
        "trials moved to the other disk, seconds to their next report": seconds,
        "epochs repeated": repeated,
        **outcome(folder, TRIALS),
        "in the bucket": sorted(what_is_in_the_bucket(driver)),
        "images decoded on each worker": [
            len(list((disks / name).rglob("ray-image-tuning/stores/*/*/pixels"))) for name in (WORKER, "another")
        ],
        "files of the study left on workers": own,
    }


def main() -> None:
    if sys.argv[1:] == ["fill"]:
        fill()
        return
    os.environ |= {"RAY_AUTH_MODE": "disabled", **KEYS}  # nothing else is on this net
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, hosts(), ExitStack() as stack:
        disks = Path(folder)
        driver = apart(HEAD, disks / HEAD)
        stack.enter_context(object_store(on(HEAD)))
        head = ("--head", "--port", str(PORT), "--num-cpus", "0", "--include-dashboard", "false")
        stack.enter_context(ray_on(HEAD, *head, inside=driver))
        time.sleep(10)  # until the head answers
        join = ("--address", f"{ADDRESSES[HEAD]}:{PORT}", "--num-cpus", "2")
        process = stack.enter_context(ray_on(WORKER, *join, inside=apart(WORKER, disks / WORKER)))
        time.sleep(10)

        def lose() -> None:
            for pid in (*descendants(process.pid), process.pid):
                os.kill(pid, signal.SIGKILL)
            stack.enter_context(ray_on(WORKER, *join, inside=apart(WORKER, disks / "another")))

        told = study(disks, driver, lose)
    show(told)


if __name__ == "__main__":
    main()
