"""Requests as OpenTelemetry spans, exported by OTLP over HTTP from a thread of the library's own.

One server span per request, and in it one client span per attempt at a node or provider. Their attributes are those of
OpenTelemetry's semantic conventions for HTTP and for generative AI; what has no name there begins with ``helexa.``.
Nothing of a prompt, an answer, a key or a URL's query is put into a span. Where spans go, how many, and with which
headers is read by OpenTelemetry itself from its variables of the process's environment.

Imported only where spans are asked for: the extra ``otel`` has the libraries.

Source: OpenTelemetry, "Semantic conventions for HTTP spans" and "Semantic conventions for generative AI spans".
"""

import logging
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import structlog
import trio
from attrs import define
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from helexa.cortex.telemetry import trace_context
from helexa.cortex.telemetry.metrics import build_version, printable
from helexa.cortex.telemetry.trace_context import TraceContext
from helexa.cortex.telemetry.tracing import ENDPOINTS, Ended
from helexa.web.asgi import ClientGoneError, Headers
from helexa.web.server import Scope
from helexa.wire.errors import ApiError

LAST_SECONDS = 2.0
"""How long a stop waits for the last spans to be taken."""
_OPERATIONS = {"/v1/completions": "text_completion", "/v1/messages/count_tokens": "count_tokens"}
_CHAT = "chat"
_SERVER_FAULT, _CLIENT_FAULT = 500, 400
_NEURON, _OURS = "neuron", "helexa"
"""What nodes speak, and what they are called where other services are called after what they speak."""
_PORTS = {"http": 80, "https": 443}
_log = structlog.get_logger()
_ENTRY: Final = Context()
"""Of a request that belongs to no trace yet: nothing of the task that serves it, either."""


@define(eq=False)
class OutgoingCall:
    """One attempt's client span, as ``tracing.Call``.

    It is told when it ended and ends itself later, with the counts of the answer, which are known by then.
    """

    span: Span
    state: bytes
    _status: int = 0
    _ended_ns: int | None = None

    @property
    def headers(self) -> Headers:
        """The span as the parent of what is done there."""
        found = self.span.get_span_context()
        trace, parent = b"%032x" % found.trace_id, b"%016x" % found.span_id
        return TraceContext(trace, parent, int(found.trace_flags), self.state).headers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended_ns = time.time_ns()
        if self._status >= _CLIENT_FAULT:
            _fail(self.span, str(self._status))
        elif error is not None and not isinstance(error, ClientGoneError | trio.Cancelled):
            _fail(self.span, printable(error.code) if isinstance(error, ApiError) else type(error).__name__)
        elif error is not None:  # given up, and no fault of whoever was asked
            self.span.set_attribute("error.type", type(error).__name__)

    def answered(self, status: int) -> None:
        """See ``tracing.Call``."""
        self._status = status
        self.span.set_attribute("http.response.status_code", status)

    def close(self, counts: dict[str, AttributeValue]) -> None:
        """End the span."""
        self.span.set_attributes(counts)
        self.span.end(self._ended_ns)


@define(eq=False)
class RequestTrace:
    """One request's server span, as ``tracing.Trace``."""

    _tracer: Tracer
    _span: Span
    _operation: str
    _state: bytes
    _last: OutgoingCall | None = None

    def attempt(self, name: str, base_url: str, model: str, kind: str, /) -> OutgoingCall:
        """See ``tracing.Trace``."""
        self._close_last({})
        model = printable(model)
        span = self._tracer.start_span(
            f"{self._operation} {model}",
            set_span_in_context(self._span, _ENTRY),
            SpanKind.CLIENT,
            {"gen_ai.operation.name": self._operation, "gen_ai.request.model": model, **_whom(name, base_url, kind)},
        )
        self._last = OutgoingCall(span, self._state)
        return self._last

    def end(self, ended: Ended) -> None:
        """See ``tracing.Trace``."""
        counts = _counts(ended)
        self._close_last(counts)
        self._span.set_attributes({**_told(ended), **counts})
        if ended.status >= _SERVER_FAULT or (ended.code is not None and ended.status < _CLIENT_FAULT):
            _fail(self._span, printable(ended.code or str(ended.status)))
        self._span.end()

    def _close_last(self, counts: dict[str, AttributeValue]) -> None:
        if self._last is not None:
            self._last.close(counts)
            self._last = None


class Exporting:
    """Spans, to wherever a processor brings them; as ``tracing.Tracing``.

    Args:
        processor: of spans; closed by ``aclose``.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        # The interpreter's end is not to wait for a collector; ``aclose`` does, with a bound.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("helexa", build_version())

    @classmethod
    def from_environment(cls) -> Self:
        """To the collector that the environment names.

        Raises:
            Exception: whatever OpenTelemetry makes of the environment.
        """
        # The library would tell of each try, with all of the URL and of headers that it cannot read.
        if not logging.getLogger("helexa").isEnabledFor(logging.DEBUG):
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        where = next(filter(None, map(os.environ.get, ENDPOINTS)), "")
        return cls(BatchSpanProcessor(TellingExporter(OTLPSpanExporter(), "{}:{}".format(*_address(where)))))

    def begin(self, scope: Scope, route: str, request_id: str, /) -> RequestTrace:
        """See ``tracing.Tracing``."""
        came = trace_context.read(scope["headers"])
        operation = _OPERATIONS.get(route, _CHAT)
        span = self._tracer.start_span(
            f"POST {route}",
            _ENTRY if came is None else _parent(came),
            SpanKind.SERVER,
            {
                "http.request.method": "POST",
                "http.route": route,
                "url.path": route,
                "url.scheme": scope.get("scheme", "http"),
                "gen_ai.operation.name": operation,
                "helexa.request_id": request_id,
            },
        )
        return RequestTrace(self._tracer, span, operation, b"" if came is None else came.state)

    async def aclose(self) -> None:
        """See ``tracing.Tracing``."""
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_SECONDS):
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)


@define(eq=False)
class TellingExporter(SpanExporter):
    """Says in the log when spans get lost for the first time, and when no more do. Runs in the exporter's thread.

    Attributes:
        exporter: who exports.
        collector: host and port of where to.
    """

    exporter: SpanExporter
    collector: str
    _fails: bool = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; blocks, tries again for ``OTEL_EXPORTER_OTLP_TIMEOUT``."""
        result = self.exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._fails:
            hint = "HELEXA_LOG=debug says why"
            _log.warning("tracing.spans_lost", collector=self.collector, spans=len(spans), hint=hint)
        elif self._fails and not failed:
            _log.info("tracing.works_again", collector=self.collector)
        self._fails = failed
        return result

    def shutdown(self) -> None:
        """End a wait for the next try."""
        self.exporter.shutdown()


def _resource() -> Resource:
    """Who speaks: what the environment says, and where it says nothing, ``helexa``."""
    found = Resource.create({"service.version": build_version()})
    unnamed = str(found.attributes.get("service.name", "")).startswith("unknown_service")
    return found.merge(Resource({"service.name": "helexa"})) if unnamed else found


def _parent(came: TraceContext) -> Context:
    state = TraceState.from_header([came.state.decode("ascii")])
    flags = TraceFlags(came.flags)
    span = SpanContext(int(came.trace, 16), int(came.parent, 16), is_remote=True, trace_flags=flags, trace_state=state)
    return set_span_in_context(NonRecordingSpan(span), _ENTRY)


def _whom(name: str, base_url: str, kind: str) -> dict[str, AttributeValue]:
    host, port = _address(base_url)
    found: dict[str, AttributeValue] = {"gen_ai.provider.name": _OURS if kind == _NEURON else kind}
    found["helexa.node"] = printable(name)
    return {**found, "server.address": host, "server.port": port, "http.request.method": "POST"}


@lru_cache(maxsize=1024)
def _address(base_url: str) -> tuple[str, int]:
    """Host and port of a URL; nothing else of it, which may hold what is secret."""
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _told(ended: Ended) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {"http.response.status_code": ended.status, "helexa.attempts": ended.attempts}
    if ended.asked:
        found["gen_ai.request.model"] = printable(ended.asked)
    if ended.node:
        found["helexa.node"] = printable(ended.node)
    if ended.key is not None:
        found["helexa.key"] = printable(ended.key)
    if ended.code is not None:
        found["helexa.error_code"] = printable(ended.code)
    if ended.first_token_at is not None:
        found["gen_ai.response.time_to_first_chunk"] = ended.first_token_at - ended.began_at
    return found


def _counts(ended: Ended) -> dict[str, AttributeValue]:
    if ended.totals is None:
        return {}
    prompt, completion, cached = ended.totals
    found: dict[str, AttributeValue] = {
        "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.output_tokens": completion,
        "gen_ai.usage.cache_read.input_tokens": cached,
    }
    return {**found, "helexa.usage_estimated": True} if ended.estimated else found


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
