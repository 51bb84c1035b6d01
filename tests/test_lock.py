"""Two drivers never run one study; who is refused learns who holds it, and a dead holder is no obstacle."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuning.errors import Locked
from tuning.lock import HOLDER, only_driver

ROOT = Path(__file__).parent.parent
HOLD = """
import sys, time
from pathlib import Path
from tuning.errors import Locked
from tuning.lock import only_driver
try:
    with only_driver(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
except Locked as refusal:
    print(refusal, flush=True)
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def test_the_refusal_names_host_process_and_start_and_a_killed_holder_leaves_no_obstacle(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        assert first_line(holder) == "held"
        with pytest.raises(Locked) as refusal, only_driver(tmp_path):
            pass
        assert re.fullmatch(
            rf"the study '{tmp_path.name}' is being run by process {holder.pid} on {re.escape(socket.gethostname())} "
            r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}; wait for it or end it",
            str(refusal.value),
        )
        assert refusal.value.exit_code == 5
    finally:
        end(holder)
    assert (tmp_path / HOLDER).exists(), "killed, it could not tidy up"
    with only_driver(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / HOLDER).read_text()
    assert not (tmp_path / HOLDER).exists()


def test_of_two_launched_together_one_gets_it_and_the_other_names_it(tmp_path: Path) -> None:
    (tmp_path / HOLDER).write_text(json.dumps({"host": socket.gethostname(), "pid": 4194999, "started": "long ago"}))
    first = hold(tmp_path)
    time.sleep(0.05)
    second = hold(tmp_path)
    try:
        lines = {process: first_line(process) for process in (first, second)}
        assert sorted(line == "held" for line in lines.values()) == [False, True]
        winner = next(process for process, line in lines.items() if line == "held")
        (refusal,) = (line for line in lines.values() if line != "held")
        assert f"process {winner.pid} on " in refusal, "not the one that died before"
    finally:
        end(first)
        end(second)
