"""Spans of this process, and a receiver of those that other processes export by OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""Of OTLP, by number."""


@dataclass(frozen=True)
class SeenSpan:
    """A span as a backend shows it."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    start_ns: int
    end_ns: int
    process: int = 0


@cache
def _recorder() -> InMemorySpanExporter:
    """OpenTelemetry has one provider for a process, which is never replaced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@contextmanager
def recorded() -> Iterator[InMemorySpanExporter]:
    """The spans that this process makes meanwhile; `seen` reads them."""
    exporter = _recorder()
    exporter.clear()
    yield exporter


def seen(exporter: InMemorySpanExporter) -> list[SeenSpan]:
    return [_of_sdk(span) for span in exporter.get_finished_spans()]


def _of_sdk(span: ReadableSpan) -> SeenSpan:
    context = span.get_span_context()
    assert context is not None
    return SeenSpan(
        span.name,
        span.kind.name.lower(),
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent is not None else "",
        dict(span.attributes or {}),
        span.start_time or 0,
        span.end_time or 0,
    )


@dataclass
class Receiver:
    """A collector: the spans that it received at `url`."""

    url: str
    spans: list[SeenSpan] = field(default_factory=list)

    def named(self, name: str) -> Sequence[SeenSpan]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = {each.key: each.value for each in group.resource.attributes}
            process = int(resource["process.pid"].int_value) if "process.pid" in resource else 0
            for span in (span for scope in group.scope_spans for span in scope.spans):
                attributes = {
                    each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
                    for each in span.attributes
                }
                self.spans.append(
                    SeenSpan(
                        span.name,
                        KINDS[span.kind],
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        attributes,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        process,
                    )
                )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver of OTLP over HTTP on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                receiver.take(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
