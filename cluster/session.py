"""A Ray cluster to work on: a private one on this machine, or one that is joined and left as it was found."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cluster.resources import Cluster, Resources

Result = TypeVar("Result")

PROBE_SECONDS, HANDSHAKE_SECONDS = 5.0, 2.0
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray sets in a job
CLIENT = "ray://"  # how the address of a Ray Client server begins
ROOT = Path(__file__).parent.parent
PACKAGES = ("cluster", "datasets", "models", "search_spaces", "tuning")  # our code, as workers need it
SETTINGS = {  # read by Ray when it is imported or by the processes that it starts
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; without it every driver warns
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal and MLflow hold every result already
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the command line has its own
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # 2 s by default: a trial stopped in a long step would cost its warm worker
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the journal is the state, Tune's snapshots would be dead weight
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def apply_settings() -> None:
    """Sets Ray's environment variables where the user has not; call before Ray is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def local_resources() -> Resources:
    """The CPUs that this process may use and the NVIDIA GPUs that it may see."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return Resources(
            cpus=cpus, gpus=len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
        )
    if not shutil.which("nvidia-smi"):
        return Resources(cpus=cpus)
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return Resources(cpus=cpus, gpus=sum(line.startswith("GPU ") for line in listing.stdout.splitlines()))


@contextmanager
def session(address: str) -> Iterator[Cluster]:
    """Starts (`local`) or joins (`auto`, `HOST:PORT`) a cluster; gives what it has and could have.

    A joined cluster gets our code for as long as the session lasts, and is left as it was found. A connection that the
    caller has already made is used and stays open. See `check_address` for what the address may be.

    Raises:
        ConnectionError: there is no cluster to join, or it runs other versions than this machine.
    """
    check_address(address)
    apply_settings()
    import ray

    from cluster import nodes

    if ray.is_initialized():
        yield nodes.present()
        return
    with _connected(address):
        yield nodes.present() if address == "local" else nodes.survey()


@contextmanager
def client(address: str) -> Iterator[None]:
    """Connects as a Ray Client (`ray://HOST:PORT`), which has tasks and actors but is no node; they get our code.

    Raises:
        ValueError: the address has another form.
        ConnectionError: there is no Ray Client server, or it runs other versions than this machine.
    """
    _check_answers(address, address.removeprefix(CLIENT))
    apply_settings()
    with _connected(address):
        yield


@contextmanager
def _connected(address: str) -> Iterator[None]:
    import ray

    _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def code_for_workers() -> dict[str, list[str]]:
    """The runtime environment that sends our packages to other machines."""
    return {"py_modules": [str(ROOT / package) for package in PACKAGES], "excludes": ["__pycache__"]}


def _connect(address: str) -> None:
    import ray

    if address == "local":
        own = local_resources()
        ray.init(address="local", num_cpus=int(own.cpus), num_gpus=int(own.gpus), include_dashboard=False)
        return
    try:
        # a job of Ray's job server has brought its code along
        ray.init(address=address, runtime_env=None if JOB in os.environ else code_for_workers())
    except RuntimeError as error:  # of Ray's own check of Ray and Python
        said = " ".join(str(error).split())
        raise ConnectionError(f"the cluster at {address} does not fit this machine: {said}") from error
    except ConnectionError as error:  # Ray says no more than that, also of a wrong token
        hint = "if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as on its nodes"
        raise ConnectionError(f"no Ray cluster could be joined at {address} ({error}); {hint}") from error


def call_on_worker(function: Callable[..., Result], *arguments: Any, address: str, trial: Resources) -> Result:
    """`function(*arguments)` on a machine that trials run on, with what a trial gets.

    Trials on this machine's CPUs need no other process for that, which would import torch for seconds first.
    """
    if address == "local" and not trial.gpus:
        return function(*arguments)
    import ray

    task = ray.remote(function).options(num_cpus=trial.cpus, num_gpus=trial.gpus)
    result: Result = ray.get(task.remote(*arguments))
    return result


def machine_is_going() -> bool:
    """Whether the machine that this worker runs on will be taken away: a spot notice, or the autoscaler's."""
    import ray

    from cluster import nodes

    return ray.get_runtime_context().get_node_id() in nodes.draining()


def check_address(address: str) -> None:
    """Raises if `session` cannot use the address, or nobody answers there, which Ray itself would say after minutes.

    Raises:
        ValueError: it has none of the known forms.
        ConnectionError: it has, but nobody listens.
    """
    if address in ("local", "auto"):
        return
    if address.startswith(CLIENT):
        raise ValueError(
            f"a study cannot run behind the Ray Client of {address}; python -m tuning.launch moves it there"
        )
    _check_answers(address, address)


def _check_answers(address: str, host_and_port: str) -> None:
    host, _, port = host_and_port.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"address must be local, auto, HOST:PORT or ray://HOST:PORT, got {address!r}")
    try:
        encrypts = _encrypts(host, int(port))
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}); start one or use --address local"
        ) from error
    if encrypts and os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        raise ConnectionError(
            f"the cluster at {address} uses TLS; set RAY_USE_TLS=1, RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and "
            "RAY_TLS_CA_CERT as cluster/README.md says"
        )


def _encrypts(host: str, port: int) -> bool:
    """Whether who listens there speaks TLS: a Ray that does lets others wait for minutes, without a word."""
    with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
        connection.settimeout(HANDSHAKE_SECONDS)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # no word is exchanged after the handshake
        context.set_alpn_protocols(["h2"])
        try:
            context.wrap_socket(connection).close()
        except OSError:
            return False
    return True
