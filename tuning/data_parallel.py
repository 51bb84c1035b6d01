"""Trains one trial in as many processes as it has GPUs: the trial's own and, beside it, a Ray actor for each other GPU.

The trial holds all CPUs and GPUs, on one node, and the others live within it. `ray.train.torch.TorchTrainer` inside a
trial has its workers wait for places of their own, reports every two seconds, trains on while Ray Tune decides whether
to stop, and cannot be stopped without the loss of the warm worker and the next trial (Ray 2.60).
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import torch
import torch.distributed as dist
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuning.training import Diverged, OutOfMemory

if TYPE_CHECKING:
    from tuning.trial import TrialSetup

PATIENCE = timedelta(days=1)  # with the first process, while Ray Tune does not answer it; Ray tells who has died
GRACE = 20.0  # seconds to leave a broken group by an exception: a GPU may wait for a dead one without end


class Lost(Exception):
    """A process of a trial has ended before its time."""


class Member:
    """A process of a trial beside the first, as a Ray actor."""

    def join(self, rank: int, size: int, meeting: str, device: str, visible: str | None) -> int:
        """Its process id, once it has met the others at the file `meeting`; `visible` are the GPUs of the trial."""
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        _join(rank, size, meeting, device)
        return os.getpid()

    def train(self, setup: TrialSetup, config: dict[str, Any], seed: int) -> None:
        try:
            for _ in setup.training(config, seed).run():
                pass
        except (Diverged, OutOfMemory):
            pass  # of all processes, and the first tells


@contextmanager
def together(setup: TrialSetup, config: Mapping[str, Any], seed: int) -> Iterator[None]:
    """Has a training of the same arguments share its work with as many processes as `setup` says.

    Raises:
        Lost: one of them ended.
    """
    size = setup.processes
    if size == 1:
        yield
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Member).options(num_cpus=0, scheduling_strategy=here)
    members = [actor.remote() for _ in range(1, size)]
    watch, visible = Watch(members), os.environ.get("CUDA_VISIBLE_DEVICES")
    with tempfile.TemporaryDirectory() as folder:
        try:
            meeting = str(Path(folder) / "meeting")
            joined = [m.join.remote(rank, size, meeting, setup.device, visible) for rank, m in enumerate(members, 1)]
            watch.over(joined)
            _join(0, size, meeting, setup.device)
            ray.get(joined)
            shared = ray.put(setup)
            watch.over([member.train.remote(shared, dict(config), seed) for member in members])
            yield
        except RuntimeError as error:  # PyTorch's of a connection that broke
            watch.explain(error)
            raise
        finally:
            watch.end()


class Watch:
    """Ends the first process when another has: by itself it would wait for it, in the middle of a sum."""

    def __init__(self, members: list[Any]) -> None:
        self.members = members
        self.reason: str | None = None
        self.noticed, self.ended = threading.Event(), threading.Event()

    def over(self, tasks: list[Any]) -> None:
        """Watches what the members do now."""
        threading.Thread(target=self._wait_for, args=(tasks,), daemon=True).start()

    def explain(self, error: RuntimeError) -> None:
        """Raises `Lost` if the error comes from a lost member."""
        if self.noticed.wait(GRACE / 2):
            raise Lost(self.reason) from error

    def end(self) -> None:
        """Ends the members and the group."""
        self.ended.set()
        leaving = threading.Timer(GRACE, _leave, ["a group of processes could not be left"])
        leaving.start()
        for member in self.members:
            ray.kill(member)
        if dist.group.WORLD:
            dist.group.WORLD.abort()  # without the others, who may be in the middle of something
            dist.destroy_process_group()
        leaving.cancel()

    def _wait_for(self, tasks: list[Any]) -> None:
        left = list(tasks)
        while left:
            done, left = ray.wait(left)
            try:
                ray.get(done)
            except ray.exceptions.RayError as error:
                if self.ended.is_set():
                    return
                rank, said = 1 + tasks.index(done[0]), str(error).strip().splitlines()
                self.reason = f"process {rank + 1} of {len(tasks) + 1} of the trial was lost: {said[-1]}"
                self.noticed.set()
                for member in self.members:  # whose connections break then, which ends the first process's waiting
                    ray.kill(member)
                if not self.ended.wait(GRACE):
                    _leave(self.reason)
                return


def _leave(reason: str) -> None:
    """Ends this process at once, as if it had been killed: Ray Tune tries the trial again in another."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def _join(rank: int, size: int, meeting: str, device: str) -> None:
    """Makes this process one of the group: over the loopback interface, and a file instead of an open port."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    for library in ("GLOO", "NCCL"):
        if loopback:
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=dist.FileStore(meeting, size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
