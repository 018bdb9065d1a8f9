"""Serves the metrics of ``labelstream run`` over HTTP, for Prometheus to scrape."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import ray
from prometheus_client import start_http_server
from ray.exceptions import RayError

from labelstream.actors.actor_names import ranker_name
from labelstream.actors.addresses import url_of
from labelstream.actors.busy_meter import WorkReport
from labelstream.actors.metrics import StreamMetrics
from labelstream.actors.readiness import pool_names
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

# A scrape is given up after ten seconds by default.
ASK_S = 2.0


@contextmanager
def metrics_server(metrics: StreamMetrics, host: str, port: int) -> Iterator[str]:
    """Serve while inside.

    Args:
        metrics: What to serve; asked in a thread at every scrape.
        host: Address to listen on.
        port: 0 for any free one.

    Yields:
        Its URL.

    Raises:
        SettingsError: The address cannot be had.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry())
    except OSError as error:
        raise SettingsError(
            f"LABELSTREAM_OBSERVABILITY_METRICS_PORT={port}: {host} port {port} cannot be had "
            f"({os.strerror(error.errno or 0)}); choose another port, or 0 for any free one"
        ) from error
    try:
        yield f"{url_of(host, server.server_port)}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def work_reports(settings: Settings, labellers: Collection[int]) -> dict[str, WorkReport]:
    """What each model actor has done, by its name; those that do not answer at once are left out.

    Args:
        settings: Where ``encoder`` and ``ray`` matter.
        labellers: See ``pool_names``.
    """
    if not ray.is_initialized():  # Ray would start itself at the first question
        return {}
    asked = {}
    for name in (*pool_names(settings, labellers), ranker_name()):
        try:
            actor = ray.get_actor(name, namespace=settings.ray.namespace)
        except ValueError:  # not started yet, dead for good, or no part of this command
            continue
        asked[actor.report.remote()] = name
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ASK_S) if asked else ([], [])
    found = {}
    for reference in done:
        try:
            found[asked[reference]] = ray.get(reference)
        except RayError:  # it is being restarted
            continue
    return found
