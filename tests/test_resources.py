"""How many trials fit: values, and what holds for any cluster."""

import dataclasses
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import Cluster, NodeType, Resources, autoscaling, concurrency, per_trial, waiting_line
from cluster.session import check_address, client, local_resources, session
from tuning.errors import NoResources
from tuning.prepare import slots
from tuning.spec import StudySpec

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
        ((16, 8), (2, 4), 2),
        ((16, 8), (2, 3), 2),
        ((16, 8), (8.5, 4), 1),
        ((16, 1), (1, 2), 0),
    ],
)
def test_values(cluster: tuple[float, float], trial: tuple[float, float], expected: int) -> None:
    given, each = (Resources(cpus=c, gpus=g) for c, g in (cluster, trial))
    assert concurrency(Cluster(nodes=(given,)), each, trials=100) == expected


@given(CPUS, CPUS, st.integers(0, 8), st.just(0.0) | st.floats(0.01, 1) | st.integers(2, 8), st.integers(1, 50))
def test_what_runs_at_once_fits(cpus: float, each: float, gpus: int, share: float, trials: int) -> None:
    alone = Cluster(nodes=(Resources(cpus=cpus, gpus=gpus),))
    count = concurrency(alone, Resources(cpus=each, gpus=share), trials)
    assert 0 <= count <= trials
    assert count * each <= cpus + 1e-6
    assert count * share <= gpus + 1e-6


def test_a_trial_takes_a_gpu_where_there_is_one() -> None:
    with_gpus, without = (Cluster(nodes=(Resources(cpus=8, gpus=gpus),)) for gpus in (2, 0))
    assert per_trial(with_gpus, 1, None) == Resources(cpus=1, gpus=1)
    assert per_trial(without, 1, None) == Resources(cpus=1, gpus=0)
    assert per_trial(with_gpus, 1, 0.25).gpus == 0.25
    assert per_trial(ELASTIC, 4, None).gpus == 1, "the GPUs are yet to come"
    assert str(Resources(cpus=1, gpus=0.5)) == "1 CPU, 0.5 GPUs"


HEAD = Resources(cpus=0)
CONFIG = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}},
        "cpu": {"resources": {"CPU": 2}, "max_workers": 10},
        "gpu": {"resources": {"CPU": 8, "GPU": 2}, "max_workers": 3},
    },
}
ELASTIC = autoscaling((HEAD,), CONFIG)


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        ((1, 0), 3 * 8 + 2 * 2),  # the largest nodes first, 5 in all
        ((4, 1), 3 * 2),
        ((4, 0.5), 3 * 2),  # its CPUs bound it
        ((9, 0), 0),
        ((1, 3), 0),
    ],
)
def test_what_runs_at_once_is_that_of_the_largest_cluster_allowed(trial: tuple[float, float], expected: int) -> None:
    each = Resources(cpus=trial[0], gpus=trial[1])
    assert concurrency(ELASTIC, each, trials=100) == expected
    assert concurrency(autoscaling((HEAD, Resources(cpus=8, gpus=2)), CONFIG), each, trials=100) == expected


def test_no_trial_spans_two_nodes() -> None:
    three = Cluster(nodes=(Resources(cpus=3),) * 3)
    assert concurrency(three, Resources(cpus=2), trials=100) == 3
    assert concurrency(three, Resources(cpus=4), trials=100) == 0


def test_a_share_of_a_cluster_is_at_least_one_trial() -> None:
    ten, trial = Cluster(nodes=(Resources(cpus=5),) * 2), Resources(cpus=1)
    assert [concurrency(ten, trial, 100, share) for share in (1, 0.5, 0.3, 0.29, 0.01)] == [10, 5, 3, 2, 1]
    assert concurrency(ten, Resources(cpus=6), 100, 0.5) == 0
    assert slots(StudySpec(model="resnet20", name="x", max_share=0.5, trials=4), ten)[0] == 4


def test_a_cluster_says_what_it_could_ever_offer() -> None:
    assert str(ELASTIC) == (
        "1 node with 0 CPUs, 0 GPUs; up to 5 with 2 CPUs, 0 GPUs; up to 3 with 8 CPUs, 2 GPUs; 6 nodes at most"
    )
    assert str(Cluster(nodes=(HEAD, Resources(cpus=2), Resources(cpus=2)))) == (
        "1 node with 0 CPUs, 0 GPUs; 2 nodes with 2 CPUs, 0 GPUs"
    )
    assert ELASTIC.most_nodes == 6
    assert autoscaling((HEAD,), None).most_nodes == 1
    of_type = {name: kind for name, kind in CONFIG.items() if name != "max_workers"}
    assert autoscaling((HEAD,), of_type).most_nodes == 1 + 10 + 3


def test_a_trial_that_no_node_could_ever_take_is_refused_with_what_there_could_be() -> None:
    spec = StudySpec(model="resnet20", name="x", cpus_per_trial=9)
    offered = "9 CPUs, 0 GPUs on one node, all that could be had is 1 node with 0 CPUs.*up to 3 with 8 CPUs, 2 GPUs; 6"
    with pytest.raises(NoResources, match=offered):
        slots(dataclasses.replace(spec, gpus_per_trial=0), ELASTIC)
    assert slots(dataclasses.replace(spec, cpus_per_trial=8), ELASTIC) == (3, Resources(cpus=8, gpus=1))


@given(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3), CPUS, st.integers(1, 50))
def test_growing_never_lowers_what_fits(there: int, workers: int, most: int, each: float, trials: int) -> None:
    small = Cluster(nodes=(Resources(cpus=4),) * (there + 1))
    types = (NodeType(resources=Resources(cpus=4), most=most), NodeType(resources=Resources(cpus=2), most=most))
    large = Cluster(nodes=small.nodes, types=types, max_workers=workers)
    trial = Resources(cpus=each)
    assert concurrency(small, trial, trials) <= concurrency(large, trial, trials)
    assert concurrency(large, trial, trials) <= large.most_nodes * int(4 // each + 1)


@pytest.mark.parametrize(
    ("pending", "nodes", "line"),
    [
        (3, 1, "waiting for nodes: 3 trials want 1 CPU, 0 GPUs each, cluster has 1 of at most 4 nodes"),
        (1, 1, "waiting for nodes: 1 trial wants 1 CPU, 0 GPUs, cluster has 1 of at most 4 nodes"),
        (2, 4, "waiting for other work to end: 2 trials want 1 CPU, 0 GPUs each, the cluster's 4 nodes are taken"),
    ],
)
def test_a_study_says_what_it_waits_for(pending: int, nodes: int, line: str) -> None:
    assert waiting_line(pending, Resources(cpus=1), nodes, 4) == line


def test_this_machine_has_a_cpu() -> None:
    assert local_resources().cpus >= 1


@pytest.mark.parametrize("address", ["", "nowhere", "host:", "host:port", ":6379", "http://host", "h:99999"])
def test_an_address_of_no_known_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address must be local, auto, HOST:PORT or ray://HOST:PORT, got"):
        check_address(address)


def test_a_study_behind_a_ray_client_is_left_to_the_command_line() -> None:
    with pytest.raises(ValueError, match=r"behind the Ray Client of ray://head:10001; python -m tuning\.launch moves"):
        check_address("ray://head:10001")


@pytest.mark.parametrize("address", ["ray://", "ray://head", "ray://:10001", "ray://head:x"])
def test_the_address_of_a_ray_client_has_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match=f"ray://HOST:PORT, got '{address}'"), client(address):
        pass


def test_known_forms_are_taken() -> None:
    check_address("local")
    check_address("auto")
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        check_address(f"127.0.0.1:{port}")


def test_a_connection_that_exists_is_used_and_stays(ray_session: None) -> None:
    import ray

    with session("local") as cluster:
        assert cluster == Cluster(nodes=(Resources(cpus=2, gpus=0),))
    assert ray.is_initialized()


def test_a_free_port_is_nobody() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        check_address(f"127.0.0.1:{port}")
