"""An autoscaling cluster on this machine grows for a study's trials and shrinks after it."""

import re
import subprocess
import sys

import pytest

from cluster.rehearsal import TRIALS, Rehearsal


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_study_grows_a_cluster_to_what_is_allowed_and_leaves_the_head_alone() -> None:
    run = subprocess.run([sys.executable, "-m", "cluster.rehearsal"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    counts = [int(count) for count in re.findall(r"\] #+ +(\d) of at most 4 nodes", run.stdout)]
    assert counts[0] == counts[-1] == 1
    assert max(counts) == 4
    assert counts[: counts.index(4) + 1] == sorted(counts[: counts.index(4) + 1]), "no node left while trials waited"
    waiting = r"waiting for nodes: \d trials? wants? 1 CPU, 0 GPUs(?: each)?, cluster has [123] of at most 4 nodes"
    assert re.search(waiting, run.stdout), run.stdout
    assert f"{TRIALS}/{TRIALS}  0 running" in run.stdout
    assert f"trials      {TRIALS}: " in run.stdout


@pytest.mark.parametrize(
    ("counts", "code", "failure"),
    [
        ((1, 2, 4, 3, 1), 0, ""),
        ((1, 4, 1), 7, "the study ended with exit code 7"),
        ((1, 2, 1), 0, "the cluster reached 2 nodes, not 4"),
        ((1, 4, 2), 0, "the cluster went from 1 to 2 nodes"),
        ((2, 4, 1), 0, "the cluster went from 2 to 1 nodes"),
    ],
)
def test_it_says_what_did_not_go_well(counts: tuple[int, ...], code: int, failure: str) -> None:
    timeline = tuple((float(at), count) for at, count in enumerate(counts))
    assert Rehearsal(timeline=timeline, code=code).failure == failure
