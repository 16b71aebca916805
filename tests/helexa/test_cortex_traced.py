"""Traces through a whole gateway: what nodes and providers are sent, and what a collector receives."""

from collections.abc import Iterator

import pytest
import trio
from attrs import evolve
from collectors import STATE, TRACE, TRACED, Collector, attributes, collecting, unset
from gateways import ANSWER, ERROR, REQUEST, STREAMED, Gateway, chat, gateway_to, outside_gateway, provider
from http_parts import Script, plays, start_script, whole

from helexa.cortex.telemetry.exporting import make_tracing


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    unset(monkeypatch)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


def traced(gateway: Gateway) -> Gateway:
    """The gateway, with the tracing of the environment."""
    gateway.proxy = evolve(gateway.proxy, tracing=make_tracing())
    return gateway


def sent(script: Script, number: int = 0) -> dict[bytes, bytes]:
    """The headers of a trace that a node or provider was sent."""
    lines = script.requests[number][0].split(b"\r\n")
    found = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return {name: value for name, value in found if name.startswith(b"trace")}


async def test_a_node_is_sent_its_clients_trace_as_it_came(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(traced(gateway_to({"a": script.url})))
    for headers in (TRACED, [], [(b"traceparent", b"00-nonsense"), (b"tracestate", STATE)]):
        assert (await gateways[0].ask(chat("m"), headers=headers)).status == 200
    assert [sent(script, n) for n in range(3)] == [dict(TRACED), {}, {}]


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_a_provider_is_sent_its_clients_trace_as_it_came(
    kind: str, nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ERROR, "400 Bad Request")))
    gateways.append(traced(outside_gateway(provider("p", script.url, kind))))  # type: ignore[arg-type]
    await gateways[0].ask(chat("out-1"), headers=TRACED)
    assert sent(script) == dict(TRACED)


@pytest.mark.parametrize(("body", "answer"), [(chat("m"), whole(ANSWER)), (REQUEST, STREAMED)])
async def test_a_request_is_followed_from_its_client_through_the_gateway_to_a_node(
    body: bytes, answer: bytes, nursery: trio.Nursery, gateways: list[Gateway], collector: Collector
) -> None:
    script = await start_script(nursery, plays(answer))
    gateways.append(traced(gateway_to({"a": script.url})))
    call = await gateways[0].ask(body, headers=[*TRACED, (b"x-request-id", b"mine")])
    await gateways[0].proxy.tracing.aclose()
    server, client = collector.spans()
    assert call.status == 200
    assert {server.trace_id.hex(), client.trace_id.hex()} == {TRACE}
    assert client.span_id.hex().encode() in sent(script)[b"traceparent"]
    assert sent(script)[b"tracestate"] == STATE
    assert attributes(server)["helexa.request_id"] == "mine"
    for span in (server, client):
        told = attributes(span)
        assert (told["gen_ai.request.model"], told["helexa.node"], told["http.response.status_code"]) == ("m", "a", 200)
        assert told["gen_ai.usage.output_tokens"] > 0
    assert attributes(client)["gen_ai.provider.name"] == "helexa"


async def test_each_node_that_was_asked_has_a_span_of_its_own(
    nursery: trio.Nursery, gateways: list[Gateway], collector: Collector
) -> None:
    broken = await start_script(nursery, plays(b"", close=True))
    works = await start_script(nursery, plays(whole(ANSWER)))
    for first, second in ((broken, works), (works, broken)):
        gateways.append(traced(gateway_to({"a": first.url, "b": second.url})))
        assert (await gateways[-1].ask(chat("m"), headers=TRACED)).status == 200
        await gateways[-1].proxy.tracing.aclose()
    asked = [attributes(span) for span in collector.spans() if "gen_ai.provider.name" in attributes(span)]
    failed = [told for told in asked if "error.type" in told]
    assert len(failed) == len(broken.requests) > 0
    assert {told["error.type"] for told in failed} == {"BrokenError"}
    assert len(asked) - len(failed) == len(works.requests) == 2
    parents = [sent(script, n)[b"traceparent"] for script in (broken, works) for n in range(len(script.requests))]
    assert len(set(parents)) == len(asked)


async def test_what_is_said_and_who_asks_is_in_no_span(
    nursery: trio.Nursery, gateways: list[Gateway], collector: Collector
) -> None:
    script = await start_script(nursery, plays(whole(ERROR, "400 Bad Request")))
    marked = provider("p", f"{script.url}/marked", api_key_env="KEY")
    gateways.append(traced(outside_gateway(marked, KEY="sk-marked")))
    headers = [(b"authorization", b"Bearer marked"), (b"cookie", b"marked"), (b"user-agent", b"marked")]
    body = chat("out-1", system="marked", user="marked", metadata={"marked": "marked"})
    await gateways[0].ask(body, headers=headers)
    await gateways[0].proxy.tracing.aclose()
    assert len(collector.spans()) == 2
    assert b"marked" not in b"".join(collector.bodies)


async def test_a_request_refused_before_anybody_was_asked_is_one_span(
    gateways: list[Gateway], collector: Collector
) -> None:
    gateways.append(traced(gateway_to({})))
    assert (await gateways[0].ask(b"{", headers=TRACED)).status == 400
    assert (await gateways[0].ask(chat("nobody's"))).status == 404
    await gateways[0].proxy.tracing.aclose()
    first, second = collector.spans()
    assert attributes(first)["http.response.status_code"] == 400
    assert attributes(first)["helexa.error_code"] == "invalid_json"
    assert first.parent_span_id
    assert attributes(second)["gen_ai.request.model"] == "nobody's"
