"""The fleet first, then providers: who is asked when a node fails, is down, or has lost the model."""

import orjson
import pytest
import trio
from gateways import ANSWER, ERROR, Gateway, chat, gateway_of, provider, refused_url, told, topology_of
from http_parts import Script, plays, start_script, whole

from config import Route
from helexa.cortex.exchange import local
from helexa.cortex.ports import Grant
from helexa.cortex.routing.policy import Wanted
from helexa.wire.fleet import ModelReport


def fleet_gateway(script: Script, node_url: str, *reports: ModelReport) -> Gateway:
    """A fleet with a node, and a provider for all models."""
    routes = (Route("*", ("p",), deny=("secret",)),)
    topology = topology_of({"a": node_url}, {}, providers=(provider("p", script.url),), routes=routes)
    return gateway_of(topology, reports=reports)


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [(b"", b"2"), (whole(ERROR, "500 Oops"), b"2"), (whole(ERROR, "503 Down"), b"2"), (whole(b"<html>"), b"2")],
)
async def test_what_the_fleet_fails_to_answer_a_provider_may(
    nursery: trio.Nursery, gateways: list[Gateway], answer: bytes, attempts: bytes
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    node = await start_script(nursery, plays(answer, close=not answer))
    gateways.append(fleet_gateway(script, node.url, ModelReport("m", "loaded")))
    call = await gateways[-1].ask(chat("m"))
    assert (told(call), call.headers[b"x-helexa-route"]) == ((200, b"provider:p", attempts), b"*")


async def test_what_the_fleet_serves_is_asked_of_the_fleet(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script, node = [await start_script(nursery, plays(whole(ANSWER))) for _ in range(2)]
    gateways.append(fleet_gateway(script, node.url, ModelReport("m", "loaded"), ModelReport("secret", "loaded")))
    for model in ("m", "secret"):
        assert told(await gateways[-1].ask(chat(model))) == (200, b"a", b"1")


@pytest.mark.parametrize(
    ("model", "status", "told_by"), [("failed", 200, b"provider:p"), ("recovering", 503, b""), ("secret", 503, b"")]
)
async def test_a_provider_stands_in_for_what_is_down_and_not_for_what_will_be_back_at_once(
    nursery: trio.Nursery, gateways: list[Gateway], model: str, status: int, told_by: bytes
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    states = ("failed", "recovering")
    reports = (*(ModelReport(state, state) for state in states), ModelReport("secret", "failed"))  # type: ignore[arg-type]
    gateways.append(fleet_gateway(script, refused_url(), *reports))
    call = await gateways[-1].ask(chat(model))
    assert (call.status, call.headers.get(b"x-helexa-node", b"")) == (status, told_by)


async def test_a_node_that_has_unloaded_the_model_is_not_the_end(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gone = b'{"error":{"message":"?","type":"invalid_request_error","code":"model_not_found","param":"model"}}'
    node = await start_script(nursery, plays(whole(gone, "404 Not Found")))
    other = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_of(topology_of({"a": node.url, "b": other.url}, {})))
    assert told(await gateways[-1].ask(chat("m"))) == (200, b"b", b"2")
    assert gateways[-1].poked == ["a"]
    gateways.append(gateway_of(topology_of({"a": node.url}, {})))
    call = await gateways[-1].ask(chat("m"))
    assert (call.status, call.error["code"]) == (503, "service_unavailable")


@pytest.mark.parametrize("answer", [whole(ERROR, "500 Oops"), b"", whole(ERROR, "503 Down"), whole(b"<html>")])
async def test_another_node_is_asked_when_one_fails(
    nursery: trio.Nursery, gateways: list[Gateway], answer: bytes
) -> None:
    node = await start_script(nursery, plays(answer, close=not answer))
    other = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_of(topology_of({"a": node.url, "b": other.url}, {})))
    assert told(await gateways[-1].ask(chat("m"))) == (200, b"b", b"2")
    assert gateways[-1].poked == ["a"]


async def test_a_full_node_tells_its_client(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    node = await start_script(nursery, plays(whole(ERROR, "429 Full", extra="retry-after: 1\r\n")))
    other = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_of(topology_of({"a": node.url, "b": other.url}, {})))
    call = await gateways[-1].ask(chat("m"))
    assert (told(call), call.headers[b"retry-after"]) == ((429, b"a", b"1"), b"1")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_conversation_goes_on_where_it_was_served_before(
    nursery: trio.Nursery, gateways: list[Gateway], path: str
) -> None:
    node, other = [await start_script(nursery, plays(whole(ANSWER))) for _ in range(2)]
    gateways.append(gateway_of(topology_of({"a": node.url, "b": other.url}, {})))
    router = gateways[-1].router
    turns = [{"role": ("user", "assistant")[index % 2], "content": f"turn {index}"} for index in range(9)]

    async def asked(*messages: dict[str, str]) -> bytes:
        body = {"model": "m", "max_tokens": 9, "messages": messages, "input": messages}
        call = await gateways[-1].ask(orjson.dumps(body), path)
        assert call.status == 200, call.answer
        return call.headers[b"x-helexa-node"]

    busy = await router.acquire(Wanted("m"))
    assert isinstance(busy, Grant)
    assert await asked(*turns[:3]) == b"b"
    router.release(busy)
    assert [await asked(*turns[:count]) for count in (3, 5, 7, 9)] == [b"b"] * 4
    assert await asked(*turns[2:5]) == b"a"


async def test_a_conversation_is_not_looked_at_where_only_one_node_has_its_model(
    nursery: trio.Nursery, gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "prefixes", None)
    node = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_of(topology_of({"a": node.url}, {})))
    assert told(await gateways[-1].ask(chat("m"))) == (200, b"a", b"1")
