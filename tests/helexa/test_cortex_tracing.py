"""Spans as a collector receives them, and what is handed on where there is none."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from collectors import (
    PARENT,
    ROUTE,
    SPAN,
    STATE,
    TRACE,
    Collector,
    End,
    attributes,
    collecting,
    one,
    scope,
    traced,
    unset,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from helexa.cortex.exchange.upstream import BrokenError
from helexa.cortex.telemetry.exporting import make_tracing
from helexa.cortex.telemetry.tracing import Passing
from helexa.wire import errors


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    unset(monkeypatch)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


def one_of(spans: list[Span], kind: Any) -> Span:
    (found,) = [span for span in spans if span.kind == kind]
    return found


async def test_a_request_is_a_server_span_and_its_attempt_a_client_span_in_it(collector: Collector) -> None:
    await one(make_tracing())
    server, client = collector.spans()
    assert (server.name, server.kind) == (f"POST {ROUTE}", Span.SPAN_KIND_SERVER)
    assert (client.name, client.kind) == ("chat m", Span.SPAN_KIND_CLIENT)
    assert client.trace_id == server.trace_id
    assert client.parent_span_id == server.span_id
    assert server.parent_span_id == b""
    assert server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano
    assert [path for path, _ in collector.requests] == ["/v1/traces"]


async def test_spans_tell_by_the_conventions_what_was_asked_of_whom_and_what_it_took(collector: Collector) -> None:
    await one(make_tracing())
    server, client = map(attributes, collector.spans())
    counts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "helexa.node": "a",
    }
    assert server == counts | {
        "http.route": ROUTE,
        "url.path": ROUTE,
        "url.scheme": "http",
        "helexa.request_id": "r1",
        "helexa.attempts": 1,
        "helexa.key": "alice",
        "gen_ai.response.time_to_first_chunk": 0.25,
    }
    assert client == counts | {"gen_ai.provider.name": "helexa", "server.address": "node", "server.port": 13131}


async def test_whoever_speaks_is_named_unless_the_environment_says_otherwise(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one(make_tracing())
    assert collector.resource()["service.name"] == "helexa"
    assert collector.resource()["service.version"]
    collector.bodies.clear()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=lab")
    await one(make_tracing())
    assert collector.resource()["service.name"] == "ours"
    assert collector.resource()["deployment.environment"] == "lab"


async def test_a_clients_trace_goes_on_with_each_attempt_as_the_next_ones_parent(collector: Collector) -> None:
    headers = dict(await one(make_tracing(), asked=traced()))
    server, client = collector.spans()
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, SPAN)
    assert headers[b"traceparent"].decode().startswith(f"00-{TRACE}-{client.span_id.hex()}-0")
    assert headers[b"traceparent"][-1:] in b"13"
    assert headers[b"tracestate"] == STATE
    assert server.trace_state == STATE.decode()


async def test_a_client_that_does_not_want_to_be_sampled_is_not_but_its_trace_goes_on(collector: Collector) -> None:
    asked = scope((b"traceparent", PARENT[:-2] + b"00"), (b"tracestate", STATE))
    headers = dict(await one(make_tracing(), asked=asked))
    assert headers[b"traceparent"].startswith(f"00-{TRACE}-".encode())
    assert headers[b"traceparent"].endswith(b"-00")
    assert headers[b"tracestate"] == STATE
    assert collector.bodies == []


async def test_a_trace_that_is_none_is_begun_anew(collector: Collector) -> None:
    headers = dict(await one(make_tracing(), asked=scope((b"traceparent", b"00-nonsense"), (b"tracestate", STATE))))
    server, _ = collector.spans()
    assert server.parent_span_id == b""
    assert headers.keys() == {b"traceparent"}
    assert server.trace_id.hex().encode() in headers[b"traceparent"]


async def test_each_attempt_is_a_span_and_only_the_last_has_the_counts(collector: Collector) -> None:
    tracing = make_tracing()
    trace = tracing.begin(scope(), ROUTE, "r1")
    with pytest.raises(BrokenError), trace.attempt("a", "http://a", "m", "neuron"):
        raise BrokenError("it broke")
    with trace.attempt("provider:p", "https://p.example/v1", "big", "openai") as call:
        call.answered(200)
    trace.end(End(attempts=2, node="provider:p"))
    await tracing.aclose()
    _, first, second = collector.spans()
    assert first.status.code == first.status.STATUS_CODE_ERROR
    assert attributes(first)["error.type"] == "BrokenError"
    assert attributes(first)["server.port"] == 80
    assert "gen_ai.usage.output_tokens" not in attributes(first)
    assert attributes(second)["server.port"] == 443
    assert attributes(second)["gen_ai.usage.output_tokens"] == 5
    assert attributes(second)["gen_ai.request.model"] == "big"
    assert first.end_time_unix_nano <= second.start_time_unix_nano


async def test_an_upstream_that_refuses_has_failed_with_its_status(collector: Collector) -> None:
    tracing = make_tracing()
    trace = tracing.begin(scope(), ROUTE, "r1")
    with trace.attempt("a", "http://a", "m", "neuron") as call:
        call.answered(429)
    trace.end(End(status=429, code="rate_limit_exceeded", totals=None))
    await tracing.aclose()
    server, client = collector.spans()
    assert attributes(client)["error.type"] == "429"
    assert attributes(client)["http.response.status_code"] == 429
    assert server.status.code == server.status.STATUS_CODE_UNSET  # the request was at fault, not its server
    assert attributes(server)["helexa.error_code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (End(status=503, code="service_unavailable"), "service_unavailable"),
        (End(status=200, code="upstream_error"), "upstream_error"),
        (End(status=500), "500"),
        (End(status=499, code="client_closed_request"), None),
        (End(status=404, code="model_not_found"), None),
    ],
)
async def test_a_server_span_has_failed_where_the_server_has(collector: Collector, end: End, kind: str | None) -> None:
    await one(make_tracing(), end)
    server = one_of(collector.spans(), Span.SPAN_KIND_SERVER)
    assert attributes(server).get("error.type") == kind
    assert (server.status.code == server.status.STATUS_CODE_ERROR) == (kind is not None)


async def test_an_attempt_given_up_is_exported_too(collector: Collector) -> None:
    tracing = make_tracing()
    trace = tracing.begin(scope(), ROUTE, "r1")
    with trio.CancelScope() as gone, trace.attempt("a", "http://a", "m", "neuron"):
        gone.cancel()
        await trio.lowlevel.checkpoint()
    trace.end(End(status=499, code="client_closed_request", totals=None))
    await tracing.aclose()
    client = one_of(collector.spans(), Span.SPAN_KIND_CLIENT)
    assert attributes(client)["error.type"] == "Cancelled"
    assert client.status.code == client.status.STATUS_CODE_UNSET


async def test_an_error_in_place_of_an_answer_is_told_by_its_code(collector: Collector) -> None:
    tracing = make_tracing()
    trace = tracing.begin(scope(), ROUTE, "r1")
    call = trace.attempt("a", "http://a", "m", "neuron")
    call.answered(200)
    with pytest.raises(errors.ApiError), call:
        raise errors.upstream_error("The node failed.")
    trace.end(End(status=502, code="upstream_error", totals=None))
    await tracing.aclose()
    client = one_of(collector.spans(), Span.SPAN_KIND_CLIENT)
    assert attributes(client)["error.type"] == "upstream_error"
    assert b"The node failed" not in b"".join(collector.bodies)


async def test_what_a_client_calls_a_model_can_break_no_span(collector: Collector) -> None:
    odd = "\ud800\x1b[31m" + "x" * 10_000
    tracing = make_tracing()
    trace = tracing.begin(scope(), ROUTE, "r1")
    with trace.attempt("a", "http://a", odd, "neuron"):
        pass
    trace.end(End(asked=odd, code=odd, status=500))
    await tracing.aclose()
    spans = collector.spans()
    assert len(spans) == 2
    for span in spans:
        assert len(span.name) < 1_000
        assert attributes(span)["gen_ai.request.model"].isprintable()


async def test_an_estimate_says_that_it_is_one(collector: Collector) -> None:
    await one(make_tracing(), End(estimated=True))
    assert all(attributes(span)["helexa.usage_estimated"] for span in collector.spans())


async def test_a_provider_url_tells_its_host_and_nothing_else(collector: Collector) -> None:
    tracing = make_tracing()
    trace = tracing.begin(scope((b"authorization", b"Bearer marked"), query_string=b"key=marked"), ROUTE, "r1")
    with trace.attempt("provider:p", "http://user:marked@host:99/marked?key=marked", "m", "openai"):
        pass
    trace.end(End())
    await tracing.aclose()
    assert len(collector.spans()) == 2
    assert b"marked" not in b"".join(collector.bodies)


async def test_routes_are_operations(collector: Collector) -> None:
    tracing = make_tracing()
    for route in ("/v1/completions", "/v1/responses", "/v1/messages/count_tokens"):
        tracing.begin(scope(), route, "r").end(End())
    await tracing.aclose()
    names = [attributes(span)["gen_ai.operation.name"] for span in collector.spans()]
    assert names == ["text_completion", "chat", "count_tokens"]


# Without an exporter


async def test_without_an_exporter_what_came_is_handed_on_to_every_attempt() -> None:
    tracing = make_tracing()
    assert isinstance(tracing, Passing)
    trace = tracing.begin(traced(), ROUTE, "r1")
    for _ in range(2):
        with trace.attempt("a", "http://a", "m", "neuron") as call:
            call.answered(200)
            assert call.headers == [(b"traceparent", PARENT), (b"tracestate", STATE)]
    trace.end(End())
    await tracing.aclose()


async def test_without_an_exporter_nothing_is_invented() -> None:
    assert await one(make_tracing()) == []
    assert await one(make_tracing(), asked=scope((b"tracestate", STATE))) == []
    assert await one(make_tracing(), asked=scope((b"traceparent", PARENT.upper()))) == []


async def test_an_error_in_an_attempt_goes_through_whoever_follows_it(collector: Collector) -> None:
    for tracing in (Passing(), make_tracing()):
        with pytest.raises(errors.ApiError), tracing.begin(scope(), ROUTE, "r").attempt("a", "http://a", "m", "neuron"):
            raise errors.shutting_down()
        await tracing.aclose()
