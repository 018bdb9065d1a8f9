"""On a machine of its own, nothing of Ray can be reached from another one.

Ray means its processes to find each other across machines, so they listen on every interface, and what they are sent
they unpickle. There is no setting for it, so two places of the pinned version are changed here; that all of it is on
loopback is what ``tests/test_serving.py`` looks at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import ray_constants


@contextmanager
def loopback_only() -> Iterator[None]:
    """Have the Ray that is started meanwhile listen on 127.0.0.1.

    Ray takes 127.0.0.1 for a mistake, puts the machine's outer address in its place, and then listens on all of them.
    It does not where clusters of several machines are off, which it otherwise is for Windows and macOS.
    """
    name, known, given = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER, dict(os.environ)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False  # for its processes, and for this one
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        del os.environ[name]
        os.environ.update({name: given[name]} if name in given else {})


def keep_replica_on_loopback() -> None:
    """Have the replica of Ray Serve that this process is listen on 127.0.0.1; called by the constructor in it.

    Replicas call each other at a gRPC server, on every interface and without a token.
    """
    from ray.serve._private import replica

    original = replica.add_port_to_grpc_server

    def on_loopback(server: Any, address: str) -> int:
        return int(original(server, address.replace("[::]", "127.0.0.1")))

    replica.add_port_to_grpc_server = on_loopback
