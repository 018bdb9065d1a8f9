"""Spans of the endpoint's requests, sent to an OpenTelemetry collector over HTTP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from labelstream import __version__
from labelstream.actors.endpoint.telemetry import SERVER_ERROR, RequestRecord

EXPORT_TIMEOUT_S = 5.0
# A collector that is away would otherwise cost a time-out for each batch of spans that waits.
CLOSE_S = 5.0

logger = logging.getLogger(__name__)


class Traces:
    """One span a request, named by its route, below the caller's own span where there is one.

    Attribute names are those of OpenTelemetry's conventions for HTTP; ours begin with ``labelstream.``.

    Args:
        endpoint: The collector's base address, such as http://127.0.0.1:4318.
        replica: Name of this process.
    """

    def __init__(self, endpoint: str, replica: str) -> None:
        resource = Resource.create(
            {
                "service.name": "labelstream-endpoint",
                "service.version": __version__,
                "service.instance.id": replica,
            }
        )
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_TIMEOUT_S)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("labelstream", __version__)

    @contextmanager
    def request(
        self, route: str, method: str, request_id: str, traceparent: str | None, record: RequestRecord
    ) -> Iterator[None]:
        """Around the work on one request; what the record says at the end becomes attributes."""
        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {})
        attributes = {"http.route": route, "http.request.method": method, "labelstream.request_id": request_id}
        # An exception's message could quote a product, so the status is all that a span says of it.
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            parent,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                span.set_attribute("http.response.status_code", record.status)
                span.set_attributes({f"labelstream.{name}": value for name, value in record.notes.items()})
                if record.status >= SERVER_ERROR:
                    span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        """Send what has not been sent; whoever closes waits for ``CLOSE_S`` at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            logger.warning("the last spans may be lost: the collector does not answer")
