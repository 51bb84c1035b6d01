"""The finals take no more places than the study was given."""

import time
from typing import Any

import pytest

from tuning.finals import wait_for_place


@pytest.mark.parametrize("places", [1, 2])
def test_so_many_run_at_once_and_no_more(ray_session: None, places: int) -> None:
    import ray

    def work() -> tuple[float, float]:
        begun = time.monotonic()
        time.sleep(0.3)
        return begun, time.monotonic()

    task = ray.remote(work).options(num_cpus=0)
    begun: list[Any] = []
    for _ in range(5):
        wait_for_place(begun, places)
        begun.append(task.remote())
    times = ray.get(begun)
    at_once = [sum(start <= moment < end for start, end in times) for moment, _ in times]
    assert max(at_once) <= places
