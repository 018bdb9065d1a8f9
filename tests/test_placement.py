"""Where Ray puts our actors on a cluster as on Kubernetes: its head has no cores to give, and some pods have a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from labelstream.actors.ingest import ingest_options
from labelstream.actors.remote import actor_options
from labelstream.schemas.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ON_A_CLUSTER = Settings.load(ray={"address": "auto"})
# Not 127.0.0.1, which Ray takes for the machine's outer address.
HEAD, WORKERS, GPU_POD = "127.0.0.2", {"127.0.0.3", "127.0.0.4"}, "127.0.0.5"


@pytest.fixture(scope="module", autouse=True)
def head_two_workers_and_a_gpu() -> Iterator[None]:
    cluster = Cluster()
    for address, cpus in ((HEAD, 0), *((address, 1) for address in sorted(WORKERS))):
        cluster.add_node(node_ip_address=address, num_cpus=cpus, object_store_memory=80 << 20)
    ray.init(cluster.address, _node_ip_address=HEAD, logging_level="error", log_to_driver=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_NODE_TYPE_NAME", "labellers")  # as KubeRay tells Ray the group of a pod
        cluster.add_node(node_ip_address=GPU_POD, num_cpus=4, num_gpus=1, object_store_memory=80 << 20)
    cluster.wait_for_nodes()
    yield
    ray.shutdown()
    cluster.shutdown()


def places(*options: dict[str, Any]) -> list[str]:
    """Where actors with these options are."""

    class Somebody:  # in here, so that a worker need not find this file
        def where(self) -> str:
            return str(ray.util.get_node_ip_address())

    actors = [ray.remote(Somebody).options(**one).remote() for one in options]
    return ray.get([actor.where.remote() for actor in actors], timeout=120)


def test_actors_keep_off_the_head_and_off_the_gpu():
    assert set(places(*(actor_options(ON_A_CLUSTER, f"actor-{number}") for number in range(5)))) <= WORKERS


def test_ingests_are_spread_and_keep_off_the_gpu():
    """Nothing that wants no GPU may keep a pod with one from going."""
    assert set(places(*(ingest_options(ON_A_CLUSTER, number) for number in range(6)))) == WORKERS
