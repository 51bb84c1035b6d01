"""What only a GPU can show, for one to be at hand: `python -m benchmarks.gpu_check` (a minute or three).

How many trials share the GPU with `--gpus-per-trial auto`, their images/s in sum against one trial alone, and whether a
training whose batch does not fit into the memory it may take ends well; with two GPUs or more, the images/s of a trial
on two against one. Without a GPU it runs the same on processor cores, on few images, which shows that the script works
and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

import search_spaces
from cluster.resources import Resources
from cluster.session import apply_settings, local_resources
from datasets import Images, Splits, in_memory
from tuning.classifier import Format
from tuning.data_parallel import together
from tuning.gpu_share import share_gpu
from tuning.spec import StudySpec
from tuning.storage import Storage
from tuning.training import OutOfMemory
from tuning.trial import TrialSetup

CASES = {"resnet18": 32, "efficientnet_b0": 224}  # architecture and pixels
IMAGES, CLASSES = 2_048, 10


def noise(size: int, images: int) -> Splits:
    """Random images, which train as fast as any."""
    rng = np.random.default_rng(0)
    train, val = (
        in_memory(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8), rng.integers(0, CLASSES, count))
        for count in (images, 64)
    )
    classes = tuple(map(str, range(CLASSES)))
    return Splits("noise", train, val, classes, mean=(0.5,) * 3, std=(0.25,) * 3, read_test=partial(_itself, val))


def _itself(images: Images) -> Images:
    return images


def setup_of(model: str, size: int, folder: Path, machine: Resources, images: int) -> TrialSetup:
    space = search_spaces.for_model(model)
    return TrialSetup(
        spec=StudySpec(model=model, name="check", epochs=1),
        fixed=dict(space.fixed),
        splits=noise(size, images),
        format=Format(memory_format="channels_last"),
        storage=Storage(str(folder), "check"),
        cpus=1,
        device="cuda" if machine.gpus else "cpu",
        gpus=machine.gpus,
    )


def crowded(setup: TrialSetup, share: float) -> str:
    """One epoch of large batches in a small share of the memory."""
    baseline = search_spaces.for_model(setup.spec.model).baseline
    config = {**search_spaces.for_model(setup.spec.model).active(baseline), "batch_size": 512}
    small = dataclasses.replace(setup, gpus=share if setup.device == "cuda" else 0.0)
    try:
        (metrics,) = small.training(config, seed=0).run()
    except OutOfMemory as error:
        return str(error)
    return f"batches of 512 went in parts of {metrics.micro_batch}, {metrics.images_per_second:.0f} images/s"


def pair(setup: TrialSetup) -> str:
    """Images/s of a trial on one GPU and on two, in its second epoch."""
    space = search_spaces.for_model(setup.spec.model)
    config, speeds = space.active(space.baseline), []
    for gpus in (1.0, 2.0):
        own = dataclasses.replace(setup, spec=dataclasses.replace(setup.spec, epochs=2), gpus=gpus)
        held = gpus if setup.device == "cuda" else 0
        task = ray.remote(num_cpus=1, num_gpus=held, max_calls=1)(_second_epoch)  # their processes give all memory back
        speeds.append(ray.get(task.remote(own, config)))
    return f"{speeds[0]:.0f} images/s on one GPU, {speeds[1]:.0f} on two, {speeds[1] / speeds[0]:.2f} times as many"


def _second_epoch(setup: TrialSetup, config: dict[str, Any]) -> float:
    with together(setup, config, 0):
        *_, last = setup.training(config, seed=0).run()
        return last.images_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    apply_settings()
    machine = local_resources()
    ray.init(address="local", num_cpus=int(machine.cpus), num_gpus=int(machine.gpus), include_dashboard=False)
    node = machine if machine.gpus else dataclasses.replace(machine, gpus=1)  # the cores stand for a GPU
    print(f"{machine}; {torch.cuda.get_device_name() if machine.gpus else 'no GPU: these figures mean nothing'}")
    with tempfile.TemporaryDirectory() as folder:
        for model, size in CASES.items():
            setup = setup_of(model, size, Path(folder), machine, options.images)
            space = search_spaces.for_model(model)
            chosen, probes = share_gpu(setup, space.active(space.baseline), node, cpus=1)
            alone = probes[0].images_per_second
            for probe in probes:
                speed = f"{probe.images_per_second:.0f} images/s, {probe.images_per_second / alone:.2f} of one alone"
                print(f"{model} {size} px: {probe.trials} at once {speed}, {probe.memory / 2**30:.1f} GiB each")
            print(f"{model} {size} px: chosen {chosen}")
            print(f"{model} {size} px: a trial on two GPUs: {pair(setup) if machine.gpus > 1 else 'skipped: one GPU'}")
        setup = setup_of("resnet18", 64, Path(folder), machine, max(options.images, 512))
        for share in (0.05, 0.01):
            print(f"resnet18 64 px in {share:.0%} of the memory: {crowded(setup, share)}")
    ray.shutdown()


if __name__ == "__main__":
    main()
