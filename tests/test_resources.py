"""How many trials fit: values, and what holds for any cluster."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import Resources, concurrency, per_trial
from cluster.session import check_address, local_resources, session

CPUS = st.floats(0.1, 64)


@pytest.mark.parametrize(
    ("cluster", "trial", "expected"),
    [
        ((2, 0), (1, 0), 2),
        ((2, 0), (0.5, 0), 4),
        ((3, 0), (2, 0), 1),
        ((1, 0), (2, 0), 0),
        ((16, 2), (1, 1), 2),
        ((16, 2), (1, 0.5), 4),
        ((16, 1), (1, 0.3), 3),
        ((16, 2), (1, 0.6), 2),  # two shares of 0.6 do not fit on one GPU
        ((16, 0), (1, 1), 0),
        ((4, 8), (2, 1), 2),
    ],
)
def test_values(cluster: tuple[float, float], trial: tuple[float, float], expected: int) -> None:
    given, each = (Resources(cpus=c, gpus=g) for c, g in (cluster, trial))
    assert concurrency(given, each, trials=100) == expected


@given(CPUS, CPUS, st.integers(0, 8), st.just(0.0) | st.floats(0.01, 1), st.integers(1, 50))
def test_what_runs_at_once_fits(cpus: float, each: float, gpus: int, share: float, trials: int) -> None:
    count = concurrency(Resources(cpus=cpus, gpus=gpus), Resources(cpus=each, gpus=share), trials)
    assert 0 <= count <= trials
    assert count * each <= cpus + 1e-6
    assert count * share <= gpus + 1e-6


def test_a_trial_takes_a_gpu_where_there_is_one() -> None:
    assert per_trial(Resources(cpus=8, gpus=2), 1, None) == Resources(cpus=1, gpus=1)
    assert per_trial(Resources(cpus=8), 1, None) == Resources(cpus=1, gpus=0)
    assert per_trial(Resources(cpus=8, gpus=2), 1, 0.25).gpus == 0.25
    assert str(Resources(cpus=1, gpus=0.5)) == "1 CPU, 0.5 GPUs"


def test_this_machine_has_a_cpu() -> None:
    assert local_resources().cpus >= 1


@pytest.mark.parametrize("address", ["", "nowhere", "host:", "host:port", ":6379", "ray://host", "h:99999"])
def test_an_address_of_no_known_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address must be local, auto, HOST:PORT or ray://HOST:PORT"):
        check_address(address)


def test_known_forms_are_taken() -> None:
    check_address("local")
    check_address("auto")
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        check_address(f"127.0.0.1:{port}")
        check_address(f"ray://127.0.0.1:{port}")


def test_a_connection_that_exists_is_used_and_stays(ray_session: None) -> None:
    import ray

    with session("local") as cluster:
        assert cluster == Resources(cpus=2, gpus=0)
    assert ray.is_initialized()


def test_a_free_port_is_nobody() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        check_address(f"127.0.0.1:{port}")
