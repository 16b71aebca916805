"""What the gateway counts and logs of requests that go through it."""

from typing import Any

import pytest
import trio
from fleets import Clock, model, neuron
from gateways import (
    ANSWER,
    ERROR,
    PATH,
    REQUEST,
    STREAM,
    STREAMED,
    Gateway,
    app_of,
    chat,
    gateway_of,
    gateway_to,
    outside_gateway,
    provider,
    refused_url,
    start,
    topology_of,
)
from http_parts import SSE_HEAD, Call, Peer, chunk, plays, start_script, until, whole
from scrapes import value
from structlog.testing import capture_logs

from actors.router import Router
from config import Route, Topology
from helexa.cortex.access.auth import KEY, Gate, Key
from helexa.cortex.exchange.proxy import Proxy
from helexa.cortex.exchange.upstream import Pool
from helexa.web.server import Drain

AT = {"model": "m", "node": "a"}
BUSY = plays(whole(ERROR, "500 Internal Server Error"))


async def count(gateway: Gateway, name: str, **labels: str) -> float | None:
    return await value(gateway.proxy.observer.metrics.registry, f"helexa_{name}", **labels)


async def ended(gateway: Gateway, status: int, model: str = "m", node: str = "a", route: str = PATH) -> bool:
    """Whether exactly one request is counted, under these labels, and none is left in flight."""
    labels = {"route": route, "model": model, "node": node, "status": str(status)}
    left = await count(gateway, "requests_in_flight", route=route, model=model)
    return await count(gateway, "requests_total", **labels) == 1 and not left


async def test_a_stream_is_counted_timed_and_logged(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, _ = await start(nursery, gateways, plays(STREAMED))
    with capture_logs() as lines:
        call = Call.post(PATH, REQUEST, [(b"x-request-id", b"r1")])
        call.scope[KEY] = Key("ci", "ci", frozenset())
        await call.run(gateway.app)
    assert call.answer == STREAM
    assert await ended(gateway, 200)
    assert await count(gateway, "time_to_first_token_seconds_count", **AT) == 1
    assert await count(gateway, "inter_token_latency_seconds_count", **AT) == 1
    assert await count(gateway, "e2e_request_latency_seconds_count", **AT) == 1
    assert await count(gateway, "gateway_overhead_seconds_count", route=PATH) == 1
    assert await count(gateway, "request_queue_time_seconds_count", model="m") == 1
    tokens = {kind: await count(gateway, "key_tokens_total", key="ci", kind=kind) for kind in ("prompt", "completion")}
    (line,) = [line for line in lines if line["event"] == "request.ended"]
    assert {key: line[key] for key in ("request_id", "key", "route", "model", "node", "status", "attempts")} == {
        "request_id": "r1",
        "key": "ci",
        "route": PATH,
        "model": "m",
        "node": "a",
        "status": 200,
        "attempts": 1,
    }
    assert (line["prompt_tokens"], line["completion_tokens"]) == (tokens["prompt"], tokens["completion"])
    assert line["completion_tokens"] > 0


async def test_an_answer_in_one_piece_is_counted(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, _ = await start(nursery, gateways, plays(whole(ANSWER)))
    await gateway.ask()
    assert await ended(gateway, 200)
    assert (await count(gateway, "completion_tokens_total", **AT) or 0) > 0
    assert await count(gateway, "time_to_first_token_seconds_count", **AT) is None


async def test_a_translated_stream_is_counted_too(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, _ = await start(nursery, gateways, plays(STREAMED))
    body = b'{"model": "m", "max_tokens": 5, "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
    assert (await gateway.ask(body, "/v1/messages")).status == 200
    assert await ended(gateway, 200, route="/v1/messages")
    assert (await count(gateway, "completion_tokens_total", **AT) or 0) > 0
    assert await count(gateway, "time_to_first_token_seconds_count", **AT) == 1


async def test_a_node_that_fails_is_a_retry_at_the_next(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    bad, good = await start_script(nursery, BUSY), await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": bad.url, "b": good.url}))
    call = await gateways[-1].ask()
    node = call.headers[b"x-helexa-node"].decode()
    retried = await count(gateways[-1], "request_retries_total", node="b")
    assert node == "b"
    assert retried == (1 if bad.requests else None)
    assert await ended(gateways[-1], 200, node=node)


async def test_a_fleet_that_fails_falls_back_to_a_provider(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    bad, good = await start_script(nursery, BUSY), await start_script(nursery, plays(whole(ANSWER)))
    providers = (provider("p", good.url),)
    gateways.append(gateway_of(topology_of({"a": bad.url}, {}, providers=providers, routes=(Route("m", ("p",)),))))
    assert (await gateways[-1].ask()).headers[b"x-helexa-node"] == b"provider:p"
    assert await count(gateways[-1], "fallbacks_total", model="m") == 1
    assert await count(gateways[-1], "request_retries_total", node="provider:p") == 1
    assert await ended(gateways[-1], 200, node="provider:p")


async def test_a_providers_model_is_told_by_its_route_and_is_no_fall_back(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(outside_gateway(provider("p", script.url)))
    await gateways[-1].ask(chat("out-1"))
    assert await ended(gateways[-1], 200, "out*", "provider:p")
    assert await count(gateways[-1], "fallbacks_total", model="out*") is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"{", 400, "invalid_json"), (b"{}", 400, "missing_required_parameter"), (chat("x"), 404, "model_not_found")],
)
async def test_what_is_refused_here_is_counted_by_its_code(
    gateways: list[Gateway], body: bytes, status: int, code: str
) -> None:
    gateways.append(gateway_to({"a": refused_url()}))
    await gateways[-1].ask(body)
    assert await ended(gateways[-1], status, "unknown", "")
    assert await count(gateways[-1], "request_errors_total", route=PATH, code=code) == 1


async def test_a_nodes_refusal_that_is_passed_on_is_counted_by_its_code(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, _ = await start(nursery, gateways, plays(whole(ERROR, "400 Bad Request")))
    await gateway.ask()
    assert await ended(gateway, 400)
    assert await count(gateway, "request_errors_total", route=PATH, code="busy") == 1


async def test_a_stream_that_breaks_is_an_error_with_the_status_it_began_with(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, _ = await start(
        nursery, gateways, plays(SSE_HEAD + chunk(STREAM[: STREAM.index(b"\n\n") + 2]), close=True)
    )
    await gateway.ask()
    assert await ended(gateway, 200)
    assert await count(gateway, "request_errors_total", route=PATH, code="upstream_error") == 1
    assert await count(gateway, "e2e_request_latency_seconds_count", **AT) is None


async def test_a_client_that_leaves_its_stream_is_counted_as_gone(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    async def play(peer: Peer) -> None:
        await peer.send(SSE_HEAD + chunk(STREAM[: STREAM.index(b"\n\n") + 2]))
        await peer.wait_closed()

    gateway, _ = await start(nursery, gateways, play)
    call = Call.post(PATH, REQUEST)
    async with trio.open_nursery() as clients:
        clients.start_soon(call.run, gateway.app)
        await until(lambda: len(call.messages) > 1)
        assert await count(gateway, "requests_waiting", model="m") == 0
        assert await count(gateway, "requests_in_flight", route=PATH, model="m") == 1
        call.leave()
    assert await ended(gateway, 499)
    assert await count(gateway, "request_errors_total", route=PATH, code="client_closed_request") == 1


def waiting_gateway() -> Gateway:
    """Its model is not loaded, and nobody loads it: whoever asks waits."""
    topology = Topology(neurons=(neuron("a"),), models=(model("m"),))
    router = Router(topology, clock=Clock())
    return Gateway(router, Proxy(router, Pool(), Drain()))


async def test_a_client_that_leaves_while_it_waits_for_a_place_waits_no_longer(
    gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = waiting_gateway()
    gateways.append(gateway)
    asked = trio.Event()

    async def acquire(*_: Any) -> Any:
        asked.set()
        await trio.sleep_forever()

    monkeypatch.setattr(gateway.router, "acquire", acquire)
    call = Call.post(PATH, REQUEST)
    async with trio.open_nursery() as clients:
        clients.start_soon(call.run, gateway.app)
        await asked.wait()
        assert await count(gateway, "requests_waiting", model="m") == 1
        assert await count(gateway, "requests_in_flight", route=PATH, model="m") == 1
        call.leave()
    assert await ended(gateway, 499, node="")
    assert await count(gateway, "requests_waiting", model="m") == 0


async def test_what_shutdown_cuts_is_counted_with_the_error_its_client_got(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    async def play(peer: Peer) -> None:
        await peer.wait_closed()

    gateway, script = await start(nursery, gateways, play)
    call = Call.post(PATH, REQUEST)
    async with trio.open_nursery() as clients:
        clients.start_soon(call.run, gateway.app)
        await until(lambda: script.requests != [])
        gateway.proxy.drain.cut()
    assert await ended(gateway, call.status)
    assert await count(gateway, "request_errors_total", route=PATH, code=call.error["code"]) == 1


async def test_whom_the_gate_turns_away_is_counted(gateways: list[Gateway]) -> None:
    gateways.append(gateway_to({"a": refused_url()}))
    app = app_of(gateways[-1], Gate(required=True))
    assert (await Call.post(PATH, REQUEST).run(app)).status == 401
    assert await ended(gateways[-1], 401, "unknown", "")
    assert await count(gateways[-1], "request_errors_total", route=PATH, code="invalid_api_key") == 1
