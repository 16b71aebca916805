"""A collector of OpenTelemetry spans: an OTLP/HTTP receiver on a port of its own. And requests to be followed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from attrs import define, field
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from helexa.cortex.telemetry.tracing import Tracing
from helexa.wire.meter import Totals

ROUTE = "/v1/chat/completions"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
STATE = b"vendor=1,other@x=2"
TRACED = [(b"traceparent", PARENT), (b"tracestate", STATE)]


@define(eq=False)
class Collector:
    """What was exported."""

    url: str
    requests: list[tuple[str, dict[str, str]]] = field(factory=list)
    bodies: list[bytes] = field(factory=list)

    def spans(self) -> list[Span]:
        """In the order in which they began, parents first."""
        found = [span for scope in self._scopes() for span in scope.spans]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, len(span.parent_span_id)))

    def resource(self) -> dict[str, Any]:
        return attributes(next(each for body in self._exports() for each in body.resource_spans).resource)

    def _exports(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def _scopes(self) -> list[Any]:
        return [scope for body in self._exports() for each in body.resource_spans for scope in each.scope_spans]


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """Receive what is exported, and answer with that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            collector.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or resource."""
    return {each.key: _value(each.value) for each in of.attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    return getattr(value, kind)


def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the environment says of telemetry."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@define(eq=False)
class End:
    """How a request ended."""

    asked: str = "m"
    key: str | None = "alice"
    node: str = "a"
    attempts: int = 1
    status: int = 200
    code: str | None = None
    totals: Totals | None = (9, 5, 4)
    estimated: bool = False
    began_at: float = 10.0
    first_token_at: float | None = 10.25


def scope(*headers: tuple[bytes, bytes], **settings: Any) -> dict[str, Any]:
    return {"type": "http", "path": ROUTE, "headers": [(b"host", b"x"), *headers], **settings}


def traced(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return scope(*TRACED, *headers)


async def one(
    tracing: Tracing, end: End | None = None, asked: dict[str, Any] | None = None
) -> list[tuple[bytes, bytes]]:
    """A request with one attempt that was answered; what the attempt was sent along."""
    trace = tracing.begin(asked or scope(), ROUTE, "r1")
    with trace.attempt("a", "http://node:13131/base", "m", "neuron") as call:
        call.answered(200)
        headers = call.headers
    trace.end(end or End())
    await tracing.aclose()
    return headers
