"""What one replica of the endpoint tells about itself: counts, times, one log line a request, traces."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from labelstream.actors.endpoint.logs import RESERVED_FIELDS, request_context
from labelstream.actors.metric_list import (
    HTTP_IN_FLIGHT,
    HTTP_ITEMS,
    HTTP_REFUSED,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    Metric,
)
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.actors.endpoint.traces import Traces

logger = logging.getLogger(__name__)

Made = TypeVar("Made", Counter, Gauge, Histogram)

# From a cached label to a full batch at the default deadline.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)
# Kubernetes and Prometheus ask every few seconds: counted, but neither logged nor traced.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
# Anybody can send any method; a series for each would fill the memory.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SERVER_ERROR, CLIENT_WENT_AWAY = 500, 499

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for


@dataclass
class RequestRecord:
    """What becomes known of a request while it is answered.

    Attributes:
        status: HTTP status; that of an unexpected error until there is another.
        token_name: Who asks; empty for anonymous.
        notes: More fields of the log line and the span, such as ``pairs``. Never tokens, never texts.
    """

    status: int = SERVER_ERROR
    token_name: str = ""
    notes: dict[str, str | int | float] = field(default_factory=dict)


class Telemetry:
    """Counts in a registry of its own, so that one process can hold several.

    Args:
        settings: Where ``observability`` matters.
        replica: Name of the replica; a label of every series.
    """

    def __init__(self, settings: Settings, replica: str) -> None:
        self._replica = replica
        self._registry = CollectorRegistry()
        self._make_metrics()
        self._traces: Traces | None = None
        if settings.observability.otlp_endpoint is not None:
            from labelstream.actors.endpoint.traces import Traces

            self._traces = Traces(settings.observability.otlp_endpoint, replica)

    def _make_metrics(self) -> None:
        def make(kind: Callable[..., Made], metric: Metric, **options: Any) -> Made:
            return kind(metric.name, metric.help, metric.labels, registry=self._registry, **options)

        self._requests = make(Counter, HTTP_REQUESTS)
        self._seconds = make(Histogram, HTTP_SECONDS, buckets=LATENCY_BUCKETS)
        self._in_flight = make(Gauge, HTTP_IN_FLIGHT).labels(self._replica)
        self._refused = make(Counter, HTTP_REFUSED)
        self._items = make(Counter, HTTP_ITEMS)

    @contextmanager
    def request(
        self, route: str, method: str, request_id: str, traceparent: str | None = None
    ) -> Iterator[RequestRecord]:
        """Around the work on one request.

        Args:
            route: The route's template, such as ``/v1/labels``; never the path as it came, which anybody can make up.
            method: HTTP method.
            request_id: In every log line of the request and in its span.
            traceparent: Header of W3C Trace Context; one that cannot be read is ignored.
        """
        record, began = RequestRecord(), time.monotonic()
        method = method if method in METHODS else "other"
        self._in_flight.inc()
        with ExitStack() as context:
            context.enter_context(request_context(request_id))
            if self._traces is not None and route not in PROBES:
                context.enter_context(self._traces.request(route, method, request_id, traceparent, record))
            try:
                yield record
            except asyncio.CancelledError:
                if record.status == SERVER_ERROR:
                    record.status = CLIENT_WENT_AWAY
                raise
            finally:
                self._in_flight.dec()
                self._finished(route, method, record, time.monotonic() - began)

    def _finished(self, route: str, method: str, record: RequestRecord, seconds: float) -> None:
        self._requests.labels(route, method, str(record.status), self._replica).inc()
        self._seconds.labels(route, self._replica).observe(seconds)
        notes = {name: value for name, value in record.notes.items() if name not in RESERVED_FIELDS}
        facts = {"route": route, "method": method, "status": record.status, "seconds": round(seconds, 6)}
        level = logging.DEBUG if route in PROBES else logging.INFO
        logger.log(
            level,
            "%s %s %d in %.3f s",
            method,
            route,
            record.status,
            seconds,
            extra={**notes, **facts, "token_name": record.token_name, "replica": self._replica},
        )

    def refused(self, reason: str) -> None:
        """Count a request that was refused before any work.

        Args:
            reason: Slug of the kind of problem, such as ``full``.
        """
        self._refused.labels(reason, self._replica).inc()

    def items(self, kind: str, outcome: str, count: int) -> None:
        """Count pairs or documents.

        Args:
            kind: ``label`` or ``rerank``.
            outcome: ``labelled``, ``cached``, ``error`` or ``ranked``.
            count: How many; 0 makes the series known.
        """
        self._items.labels(kind, outcome, self._replica).inc(count)

    def text(self) -> str:
        """This replica's metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def close(self) -> None:
        """Send the spans that have not been sent yet; waits a few seconds at most."""
        if self._traces is not None:
            self._traces.close()
