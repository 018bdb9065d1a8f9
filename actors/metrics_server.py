"""Serves the metrics of ``labelstream run`` over HTTP, for Prometheus to scrape."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from labelstream.actors.addresses import url_of
from labelstream.actors.metrics import StreamMetrics
from labelstream.schemas.errors import SettingsError


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
