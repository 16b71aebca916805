"""Providers asked in order: retries, fall-back, keys, rules, breakers, and what the client is told of it."""

from typing import Any

import orjson
import pytest
import trio
from gateways import ANSWER, EVENTS, Gateway, chat, outside_gateway, provider, refused_url, told
from http_parts import SSE_HEAD, Call, Peer, Script, chunk, plays, sse_data, start_script, until, whole

from config import Route, Topology
from helexa.cortex.exchange import retry
from helexa.cortex.exchange.breaker import FAILURES, OPEN_SECONDS

ERROR = b'{"error":{"message":"busy","type":"server_error","code":"busy","param":null}}'
MESSAGES = "/v1/messages"
HI = chat("out")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)


async def two(
    nursery: trio.Nursery, gateways: list[Gateway], first: Any, second: Any = None, **settings: Any
) -> tuple[Gateway, Script, Script]:
    """A gateway to two providers that play these."""
    scripts = [await start_script(nursery, play) for play in (first, second or plays(whole(ANSWER)))]
    gateways.append(outside_gateway(provider("p", scripts[0].url, **settings), provider("q", scripts[1].url)))
    return gateways[-1], *scripts


@pytest.mark.parametrize("status", ["408 Slow", "429 Full", "500 Oops", "502 Bad", "503 Down", "529 Overloaded"])
async def test_what_may_mend_is_tried_again_and_then_elsewhere(
    nursery: trio.Nursery, gateways: list[Gateway], status: str
) -> None:
    gateway, first, second = await two(nursery, gateways, plays(whole(ERROR, status)), retries=2)
    call = await gateway.ask(HI)
    assert told(call) == (200, b"provider:q", b"4")
    assert (len(first.requests), len(second.requests)) == (3, 1)


async def test_a_second_try_that_works_is_the_answer(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script = await start_script(nursery, plays(whole(ERROR, "500 Oops")), plays(whole(ANSWER)))
    gateways.append(outside_gateway(provider("p", script.url, retries=1)))
    call = await gateways[-1].ask(HI)
    assert (told(call), call.answer) == ((200, b"provider:p", b"2"), ANSWER)


@pytest.mark.parametrize("status", ["400 Bad", "404 Not Found", "409 Conflict", "413 Large", "422 Odd"])
async def test_what_is_wrong_with_the_request_is_told_at_once(
    nursery: trio.Nursery, gateways: list[Gateway], status: str
) -> None:
    gateway, first, second = await two(nursery, gateways, plays(whole(ERROR, status)), retries=2)
    call = await gateway.ask(HI)
    assert (told(call), call.answer) == ((int(status[:3]), b"provider:p", b"1"), ERROR)
    assert (len(first.requests), len(second.requests)) == (1, 0)


@pytest.mark.parametrize("status", ["401 Unauthorized", "402 Pay", "403 Forbidden"])
async def test_a_provider_that_does_not_want_this_gateway_is_not_the_clients_fault(
    nursery: trio.Nursery, gateways: list[Gateway], status: str
) -> None:
    gateway, first, _ = await two(nursery, gateways, plays(whole(ERROR, status)), retries=2)
    assert told(await gateway.ask(HI)) == (200, b"provider:q", b"2")
    assert len(first.requests) == 1
    gateways.append(outside_gateway(provider("p", first.url)))
    call = await gateways[-1].ask(HI)
    assert (call.status, call.error["code"]) == (502, "upstream_error")


async def test_a_provider_that_cannot_be_reached_is_tried_again_and_passed_over(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(outside_gateway(provider("p", refused_url(), retries=1), provider("q", script.url)))
    assert told(await gateways[-1].ask(HI)) == (200, b"provider:q", b"3")


FAILURES_BEFORE_THE_FIRST_BYTE = {
    "closed": plays(close=True),
    "HTML": plays(whole(b"<html></html>", kind="text/html")),
    "half an answer": plays(whole(ANSWER)[:-3], close=True),
    "no HTTP": plays(b"oops\r\n", close=True),
    "an empty stream": plays(SSE_HEAD + chunk(b"")),
    "an error event": plays(SSE_HEAD + chunk(b'data: {"error":{"message":"no","code":503}}\n\n') + chunk(b"")),
    "an error in a success": plays(whole(ERROR)),
    "a redirect": plays(whole(b"", "302 Found", extra="location: /\r\n")),
    "compressed": plays(whole(ANSWER, extra="content-encoding: br\r\n")),
}


@pytest.mark.parametrize("fault", FAILURES_BEFORE_THE_FIRST_BYTE)
async def test_whatever_fails_before_the_first_byte_is_tried_elsewhere(
    nursery: trio.Nursery, gateways: list[Gateway], fault: str
) -> None:
    gateway, _, _ = await two(nursery, gateways, FAILURES_BEFORE_THE_FIRST_BYTE[fault])
    assert told(await gateway.ask(HI)) == (200, b"provider:q", b"2")


async def test_what_breaks_after_the_first_byte_is_told_and_nobody_else_is_asked(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    broken = plays(SSE_HEAD + chunk(EVENTS[0] + EVENTS[1]), close=True)
    gateway, _, second = await two(nursery, gateways, broken, retries=2)
    call = await gateway.ask(HI)
    *_, error, end = sse_data(call.answer)
    assert (told(call), error["error"]["code"], end) == ((200, b"provider:p", b"1"), "upstream_error", "[DONE]")
    assert second.requests == []


async def test_the_last_providers_own_answer_is_what_the_client_gets(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    last = plays(whole(ERROR.replace(b"busy", b"full"), "429 Full", extra="retry-after: 40\r\n"))
    gateway, _, second = await two(nursery, gateways, plays(whole(ERROR, "500 Oops")), last)
    call = await gateway.ask(HI)
    assert (told(call), call.error["message"]) == ((429, b"provider:q", b"2"), "full")
    assert call.headers[b"retry-after"] == b"40"
    translated = await gateway.ask(orjson.dumps({"model": "out", "max_tokens": 1, "messages": [_user()]}), MESSAGES)
    assert (translated.status, translated.headers[b"retry-after"]) == (429, b"40")
    assert translated.error == {"type": "rate_limit_error", "message": "full"}
    assert len(second.requests) == 2


def _user() -> dict[str, str]:
    return {"role": "user", "content": "hi"}


async def test_a_wait_that_is_asked_for_is_honoured(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    times: list[float] = []

    async def play(peer: Peer) -> None:
        times.append(trio.current_time())
        answer = whole(ANSWER) if len(times) > 1 else whole(ERROR, "429 Full", extra="retry-after-ms: 80\r\n")
        await peer.send(answer)

    script = await start_script(nursery, play)
    gateways.append(outside_gateway(provider("p", script.url, retries=1)))
    assert told(await gateways[-1].ask(HI)) == (200, b"provider:p", b"2")
    assert times[1] - times[0] >= 0.08


async def test_too_long_a_wait_is_not_waited_for(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    full = plays(whole(ERROR, "429 Full", extra="retry-after: 11\r\n"))
    gateway, first, _ = await two(nursery, gateways, full, retries=5)
    assert told(await gateway.ask(HI)) == (200, b"provider:q", b"2")
    assert len(first.requests) == 1


async def test_a_client_that_leaves_while_it_waits_for_another_try_leaves_nothing_behind(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    full = plays(whole(ERROR, "429 Full", extra="retry-after: 9\r\n"))
    script = await start_script(nursery, full)
    gateways.append(outside_gateway(provider("p", script.url, retries=5)))
    call = Call.post("/v1/chat/completions", HI)
    with trio.fail_after(5):
        async with trio.open_nursery() as both:
            both.start_soon(call.run, gateways[-1].app)
            await until(lambda: len(script.requests) == 1)
            call.leave()
    assert call.messages == []


async def test_a_silent_provider_is_passed_over_and_a_slow_stream_ends_with_an_error(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.wait_closed()

    async def stuck(peer: Peer) -> None:
        await peer.send(SSE_HEAD, chunk(EVENTS[0] + EVENTS[1]))
        await peer.wait_closed()

    gateway, first, _ = await two(nursery, gateways, silent, stuck, first_byte_timeout=0.05, retries=3)
    gateway.router.state.apply(_impatient(gateway.router.fleet().topology), 0.0)
    call = await gateway.ask(HI)
    *_, error, end = sse_data(call.answer)
    assert (told(call), error["error"]["code"], end) == ((200, b"provider:q", b"2"), "timeout", "[DONE]")
    await until(lambda: first.open == 0)


def _impatient(topology: Topology) -> Topology:
    first, second = topology.providers
    return Topology(providers=(first, provider("q", second.base_url, idle_timeout=0.05)), routes=topology.routes)


async def test_a_provider_gets_its_own_key_and_nothing_of_the_clients(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(outside_gateway(provider("p", script.url, api_key_env="P_KEY"), P_KEY=" sk-own \n"))
    mine = [
        (b"authorization", b"Bearer mine"),
        (b"x-api-key", b"mine"),
        (b"cookie", b"mine"),
        (b"openai-beta", b"mine"),
    ]
    await gateways[-1].ask(HI, headers=[*mine, (b"anthropic-beta", b"mine"), (b"x-request-id", b"mine")])
    lines = script.requests[0][0].split(b"\r\n")
    assert b"authorization: Bearer sk-own" in lines
    assert b"accept-encoding: identity" in lines
    assert b"mine" not in script.requests[0][0]
    assert script.requests[0][1] == HI


async def test_anthropics_headers_go_to_whoever_speaks_its_dialect(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(b'{"type": "message"}')))
    gateways.append(outside_gateway(provider("p", script.url, "anthropic", api_key_env="P_KEY"), P_KEY="sk-ant"))
    sent = [(b"anthropic-version", b"2099-01-01"), (b"anthropic-beta", b"x-1"), (b"x-api-key", b"mine")]
    body = orjson.dumps({"model": "out", "max_tokens": 1, "messages": [_user()]})
    await gateways[-1].ask(body, MESSAGES, sent)
    await gateways[-1].ask(body, MESSAGES)
    await gateways[-1].ask(HI, headers=sent)
    heads = [head.split(b"\r\n") for head, _ in script.requests]
    assert all(b"x-api-key: sk-ant" in head for head in heads)
    assert all(not any(line.lower().startswith(b"authorization") for line in head) for head in heads)
    versions = [b"anthropic-version: 2099-01-01", b"anthropic-version: 2023-06-01", b"anthropic-version: 2023-06-01"]
    assert [version in head for version, head in zip(versions, heads, strict=True)] == [True] * 3
    assert [b"anthropic-beta: x-1" in head for head in heads] == [True, False, False]


@pytest.mark.parametrize("value", [None, "", "  ", "a\nb", "kéy", "a\x7fb"])
async def test_a_provider_whose_key_is_missing_is_passed_over_and_named_if_there_is_no_other(
    nursery: trio.Nursery, gateways: list[Gateway], value: str | None
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    environment = {} if value is None else {"P_KEY": value}
    keyed, open_to_all = provider("p", script.url, api_key_env="P_KEY"), provider("q", script.url)
    gateways.append(outside_gateway(keyed, open_to_all, **environment))
    assert told(await gateways[-1].ask(HI)) == (200, b"provider:q", b"1")
    gateways.append(outside_gateway(keyed, **environment))
    call = await gateways[-1].ask(HI)
    assert (call.status, call.error["code"]) == (502, "upstream_error")
    assert "provider 'p'" in call.error["message"]
    assert "$P_KEY" in call.error["message"]
    assert not (value and value.strip() and value.strip() in call.error["message"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", MESSAGES, "/v1/messages/count_tokens"])
async def test_a_denied_model_is_asked_of_nobody(nursery: trio.Nursery, gateways: list[Gateway], path: str) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    route = Route("out*", ("p",), deny=("out-secret",))
    gateways.append(outside_gateway(provider("p", script.url), route=route))
    body = {"model": "out-secret", "max_tokens": 1, "messages": [_user()], "input": "hi"}
    call = await gateways[-1].ask(orjson.dumps(body), path)
    assert call.status == 403
    assert call.error["type"] == "permission_error"
    assert ("code" not in call.error) if path.startswith(MESSAGES) else call.error["code"] == "model_not_permitted"
    assert script.requests == []


async def test_where_rules_apply_what_was_checked_is_what_is_sent(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    """A body may name its model twice, and not every reader takes the one we take."""
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(outside_gateway(provider("p", script.url, deny=("out-secret",))))
    await gateways[-1].ask(b'{"model": "out-secret", "messages": [], "model": "out-1"}')
    assert script.requests[0][1] == b'{"model":"out-1","messages":[]}'


async def test_a_route_may_rename_the_model_and_the_rest_is_kept(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(outside_gateway(provider("p", script.url), route=Route("out*", ("p",), model="gpt-5")))
    call = await gateways[-1].ask(chat("out-1", odd={"x": [1.5, None]}))
    assert orjson.loads(script.requests[0][1]) == orjson.loads(chat("gpt-5", odd={"x": [1.5, None]}))
    assert call.headers[b"x-helexa-route"] == b"out*"


async def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, first, second = await two(nursery, gateways, plays(whole(ERROR, "500 Oops")))
    for _ in range(FAILURES + 3):
        assert (await gateway.ask(HI)).status == 200
    assert (len(first.requests), len(second.requests)) == (FAILURES, FAILURES + 3)
    second_alone = await start_script(nursery, plays(whole(ERROR, "500 Oops")))
    gateways.append(outside_gateway(provider("p", second_alone.url)))
    for _ in range(FAILURES):
        assert (await gateways[-1].ask(HI)).status == 500
    call = await gateways[-1].ask(HI)
    assert (told(call), call.error["code"]) == ((503, b"", b"0"), "service_unavailable")
    assert 0 < int(call.headers[b"retry-after"]) <= OPEN_SECONDS
    assert len(second_alone.requests) == FAILURES


async def test_a_provider_whose_clients_leave_is_not_taken_for_sick(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.wait_closed()

    script = await start_script(nursery, silent)
    gateways.append(outside_gateway(provider("p", script.url)))
    for count in range(FAILURES + 1):
        call = Call.post("/v1/chat/completions", HI)
        async with trio.open_nursery() as both:
            both.start_soon(call.run, gateways[-1].app)
            await until(lambda wanted=count + 1: len(script.requests) == wanted)  # type: ignore[misc]
            call.leave()
    assert len(script.requests) == FAILURES + 1
