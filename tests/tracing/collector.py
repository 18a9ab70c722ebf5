"""A small collector: takes OTLP over HTTP, keeps every span, and every byte that came."""

import gzip
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from onetake.dev.devstack.ports import LOOPBACK
from onetake.tracing.interceptor import trace_id_of

LIMIT_S = 300.0  # of a hang


@dataclass
class Collector:
    """What has come. `raw` is all of it, for whoever looks for what must not be there."""

    url: str
    spans: list[Span] = field(default_factory=list[Span])
    services: set[str] = field(default_factory=set[str])
    raw: bytes = b""
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environ(self) -> dict[str, str]:
        """What a process that sends to it is given. Nothing is sent twice because an answer was slow."""
        patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": str(LIMIT_S), "OTEL_BSP_EXPORT_TIMEOUT": str(int(LIMIT_S * 1000))}
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100", **patient}

    def until(self, come: Callable[[], bool]) -> None:
        """Wait, while what is sent comes in, or until the limit: who asserts says what is missing. Blocks."""
        deadline = time.monotonic() + LIMIT_S
        while not come() and time.monotonic() < deadline:
            time.sleep(0.05)

    def of(self, generation_id: str) -> list[Span]:
        """The spans of a generation's trace, in the order in which they began."""
        trace = trace_id_of(generation_id).to_bytes(16)
        return sorted(
            (span for span in self.spans if span.trace_id == trace), key=lambda span: span.start_time_unix_nano
        )

    def take(self, body: bytes) -> None:
        with self._one_at_a_time:
            self._take(body)

    def _take(self, body: bytes) -> None:
        self.raw += body
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in each.resource.attributes
                if attribute.key == "service.name"
            }
            for scope in each.scope_spans:
                self.spans += scope.spans


def names_of(spans: Iterable[Span]) -> list[str]:
    return [span.name for span in spans]


def attributes_of(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


@contextmanager
def collecting() -> Generator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    collector = Collector(f"http://{LOOPBACK}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
