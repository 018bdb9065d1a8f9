"""OpenTelemetry collectors in this process, each named for what it does."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Takes spans over HTTP and decodes them."""

    def __enter__(self) -> Collector:
        self.resources: list[dict[str, str]] = []
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        assert path == "/v1/traces"
        for resource in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


class SilentCollector(Collector):
    """Does not answer before it is let go."""

    def __init__(self) -> None:
        self._let_go = threading.Event()

    def __exit__(self, *_: object) -> None:
        self._let_go.set()
        super().__exit__()

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        self._let_go.wait(30)
        super().take(path, request)


def attributes(span: Span) -> dict[str, Any]:
    """What a span says, by name; no name comes twice."""
    found = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    assert len(found) == len(span.attributes)
    return found
