"""What requests set aside and what is booked of them, at nodes of the fleet."""

from typing import Any

import orjson
import pytest
import trio
from attrs import define, field
from charges import METERED, METERED_HEAD, REMAINING, STREAMED, TOLD, FakeLedger, booking, metering, request
from fleets import model
from gateways import (
    ANSWER,
    DONE,
    ERROR,
    EVENTS,
    REQUEST,
    STREAM,
    Gateway,
    gateway_of,
    refused_url,
    start,
    topology_of,
)
from http_parts import SSE_HEAD, Call, Peer, Play, chunk, plays, sse_data, start_script, until, whole
from scrapes import value

from config import Cortex, Cost, Limits
from helexa.cortex.access.auth import Key
from helexa.cortex.exchange import proxy as proxying
from helexa.cortex.ledger.limits import Prices
from helexa.wire import errors, meter
from helexa.wire.meter import Totals

USAGE = "x-helexa-usage: 12 5 3\r\n"
MESSAGES = "/v1/messages"
MESSAGE = orjson.dumps({"model": "m", "max_tokens": 5, "stream": True, "messages": [{"role": "user", "content": "hi"}]})


def covered(written: bytes) -> Totals | tuple[()]:
    """The totals that the events so far stand for."""
    return next((told for event, told in reversed(list(zip(EVENTS, TOLD, strict=True))) if event in written), ())


@define(eq=False)
class Watched(Call):
    """A client that looks with each message whether all its events are booked by then, and no others."""

    ledger: FakeLedger = field(factory=FakeLedger)
    checks: list[bool] = field(factory=list)

    async def send(self, message: dict[str, Any]) -> None:
        written = self.answer + message.get("body", b"")
        if message["type"] == "http.response.body":
            self.checks.append(self.ledger.charges[0].delivered == covered(written))
        await super().send(message)

    @classmethod
    def of(cls, ledger: FakeLedger) -> "Watched":
        return cls(request().scope, REQUEST, ledger=ledger)


async def test_what_a_stream_has_used_is_booked_before_each_write(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    script = await booking(nursery, gateways, ledger, STREAMED)
    call = await Watched.of(ledger).run(gateways[-1].app)
    assert (call.status, call.answer) == (200, STREAM)
    assert call.checks
    assert all(call.checks)
    assert (ledger.only.nodes, ledger.only.delivered) == (["a"], TOLD[-1])
    assert b"\r\nx-helexa-meter: 1" in script.requests[0][0]
    assert not any(name.startswith((b"x-helexa-usage", b"x-helexa-meter")) for name in call.headers)


async def test_wherever_the_network_cuts_a_stream_the_client_has_what_is_booked(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    data = METERED_HEAD + b"".join(chunk(each) for each in [*METERED, DONE, b""])
    cuts = range(1, len(data), 7)
    scripted = [plays(data[:cut], data[cut:]) for cut in cuts]
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, *scripted)
    for _ in scripted:
        call = await Watched.of(ledger).run(gateways[-1].app)
        assert (call.answer, all(call.checks)) == (STREAM, True)
        assert ledger.only.delivered == TOLD[-1]
        ledger.charges.clear()


async def test_a_stream_that_breaks_off_is_booked_as_far_as_it_was_sent(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    data = METERED_HEAD + chunk(METERED[0]) + chunk(METERED[1]) + chunk(METERED[2][:-4])
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, plays(data, close=True))
    call = await request().run(gateways[-1].app)
    *_, error, end = sse_data(call.answer)
    assert (error["error"]["code"], end) == ("upstream_error", "[DONE]")
    assert ledger.only.delivered == TOLD[1]
    assert EVENTS[2] not in call.answer


async def test_a_client_that_leaves_has_used_what_it_was_sent(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    async def play(peer: Peer) -> None:
        await peer.send(METERED_HEAD, chunk(METERED[0]), chunk(METERED[1]))
        await peer.wait_closed()

    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, play)
    call = request()
    async with trio.open_nursery() as both:
        both.start_soon(call.run, gateways[-1].app)
        await until(lambda: EVENTS[1] in call.answer)
        call.leave()
    assert ledger.only.delivered == TOLD[1]


async def test_a_translated_stream_is_booked_when_it_is_written(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, STREAMED)
    call = await request(MESSAGE, MESSAGES).run(gateways[-1].app)
    assert call.answer.endswith(b'{"type":"message_stop"}\n\n')
    assert b":u " not in call.answer
    assert ledger.only.delivered == TOLD[-1]
    assert ledger.only.ask.route == MESSAGES


async def test_an_answer_in_one_piece_is_booked_before_it_is_sent(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, plays(whole(ANSWER, extra=USAGE)))
    call = request(b'{"model": "m"}')
    seen: list[tuple[int, ...]] = []

    async def pace() -> None:
        seen.append(ledger.charges[0].delivered)

    call.pace = pace
    await call.run(gateways[-1].app)
    assert (call.status, call.answer) == (200, ANSWER)
    assert seen == [(12, 5, 3)] * 2
    assert ledger.only.delivered == (12, 5, 3)
    assert meter.USAGE not in call.headers


async def test_a_client_that_leaves_before_an_answer_in_one_piece_has_used_nothing(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.wait_closed()

    ledger = FakeLedger()
    script = await booking(nursery, gateways, ledger, silent)
    call = request()
    async with trio.open_nursery() as both:
        both.start_soon(call.run, gateways[-1].app)
        await until(lambda: bool(script.requests))
        call.leave()
    assert (ledger.only.delivered, ledger.only.nodes) == ((0, 0, 0), ["a"])


REFUSALS: dict[str, Play] = {
    "a refusal": plays(whole(ERROR, "400 Bad")),
    "a fault": plays(whole(ERROR, "500 Oops")),
    "an error in place of a stream": plays(METERED_HEAD + chunk(b'data: {"error":{"message":"x"}}\n\n' + DONE)),
    "nothing": plays(close=True),
    "an answer that is none": plays(whole(b"<html>", kind="text/html", extra=USAGE)),
}


@pytest.mark.parametrize("fault", REFUSALS)
async def test_an_error_uses_no_tokens(nursery: trio.Nursery, gateways: list[Gateway], fault: str) -> None:
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, REFUSALS[fault])
    call = await request().run(gateways[-1].app)
    assert call.status >= 400
    assert ledger.only.delivered == (0, 0, 0)
    assert (b"x-ratelimit-remaining-tokens", b"77") in call.headers.items()


async def test_who_answers_instead_of_a_node_that_failed_is_who_is_booked(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    good = await start_script(nursery, plays(whole(ANSWER, extra=USAGE)))
    bad = await start_script(nursery, plays(close=True))
    topology = topology_of({"a": bad.url, "b": good.url}, {}, models=(model(cost=Cost(1.0, 2.0)),))
    gateways.append(gateway_of(topology, metering=metering(ledger)))
    while not bad.requests:
        ledger.charges.clear()
        assert (await request(b'{"model": "m"}').run(gateways[-1].app)).status == 200
    assert ledger.only.told == [
        ("sent", "a", Prices(10**6, 2 * 10**6)),
        ("sent", "b", Prices(10**6, 2 * 10**6)),
        ("deliver", 12, 5, 3),
    ]


async def test_what_the_budget_refuses_is_sent_to_nobody(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger(error=errors.rate_limited("Wait.", 17))
    script = await booking(nursery, gateways, ledger, STREAMED)
    call = await request(MESSAGE, MESSAGES).run(gateways[-1].app)
    assert (call.status, call.headers[b"retry-after"]) == (429, b"17")
    assert call.error["type"] == "rate_limit_error"
    assert call.headers[REMAINING[0]] == REMAINING[1]
    assert script.requests == []


async def test_a_request_without_a_key_is_booked_to_nobody_and_counted(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    script = await booking(nursery, gateways, ledger, STREAMED)
    call = await gateways[-1].ask()
    assert (call.status, call.answer, ledger.charges) == (200, STREAM, [])
    assert REMAINING[0] not in call.headers
    assert meter.BUDGET not in script.requests[0][0]
    metrics = gateways[-1].proxy.observer.metrics.registry
    assert await value(metrics, "helexa_completion_tokens_total", model="m", node="a") == 2
    assert await value(metrics, "helexa_prompt_tokens_cached_total", model="m", node="a") == 4


async def test_a_gateway_that_books_nothing_serves_who_has_a_key(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, script = await start(nursery, gateways, STREAMED)
    call = await request().run(gateway.app)
    assert (call.status, call.answer) == (200, STREAM)
    assert meter.BUDGET not in script.requests[0][0]


async def test_a_clients_own_words_about_tokens_reach_no_node(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    script = await booking(nursery, gateways, ledger, STREAMED)
    call = request()
    given = [(name, b"999999 999999") for name in (meter.BUDGET, meter.USAGE, b"x-helexa-tenant", b"X-Helexa-Budget")]
    call.scope["headers"] += [*given, (meter.HEADER, b"0")]
    await call.run(gateways[-1].app)
    head = script.requests[0][0].lower()
    assert b"999999" not in head
    assert head.count(b"x-helexa-") == 2  # the meter, and the tenant from the key
    assert b"x-helexa-meter: 1\r\n" in head


async def test_a_node_that_does_not_meter_is_counted_by_what_it_shows(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    cut = plays(SSE_HEAD + chunk(EVENTS[0] + EVENTS[1]), close=True)
    await booking(nursery, gateways, ledger, plays(SSE_HEAD + chunk(STREAM) + chunk(b"")), cut, plays(whole(ANSWER)))
    usage = sse_data(EVENTS[3])[0]["usage"]
    told = usage["prompt_tokens"], usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
    await request().run(gateways[-1].app)
    await request().run(gateways[-1].app)
    await request(b'{"model": "m"}').run(gateways[-1].app)
    assert [each.delivered for each in ledger.charges] == [told, (-(-len(REQUEST) // 4), 1, 0), told]


async def test_counting_tokens_uses_none(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, plays(whole(b'{"count": 7}')))
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    call = await request(body, "/v1/messages/count_tokens").run(gateways[-1].app)
    assert (call.status, call.answer) == (200, b'{"input_tokens":7}')
    assert ledger.charges == []


async def test_nothing_is_set_aside_for_who_may_not_ask_or_asks_for_too_much(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    limits = Cortex(limits=Limits(messages=1))
    await booking(nursery, gateways, ledger, STREAMED, cortex=limits)
    other = Key("ci", "ci", frozenset(), ("other",))
    long = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}] * 2})
    calls = [request(key=other), request(long), request(b"{}"), request(b"[")]
    codes = [(await call.run(gateways[-1].app)).error["code"] for call in calls]
    assert codes == ["model_not_permitted", "invalid_value", "missing_required_parameter", "invalid_json"]
    assert ledger.charges == []
    assert all(call.headers[REMAINING[0]] == b"77" for call in calls)


async def test_nothing_is_set_aside_before_it_is_a_requests_turn(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    go = trio.Event()

    async def slow(peer: Peer) -> None:
        await go.wait()
        await STREAMED(peer)

    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, slow, cortex=Cortex(max_in_flight=1))
    first, second = request(), request()
    async with trio.open_nursery() as both:
        both.start_soon(first.run, gateways[-1].app)
        await until(lambda: len(ledger.charges) == 1)
        both.start_soon(second.run, gateways[-1].app)
        await until(lambda: gateways[-1].proxy.admission.figures().waiting == 1)
        assert len(ledger.charges) == 1
        go.set()
    assert (first.answer, second.answer) == (STREAM, STREAM)
    assert [each.delivered for each in ledger.charges] == [TOLD[-1]] * 2
    assert (gateways[-1].proxy.admission.figures().in_flight, gateways[-1].proxy.bodies.held) == (0, 0)


async def test_a_fault_of_ours_leaves_nothing_set_aside(
    nursery: trio.Nursery, gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("a bug")

    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, STREAMED)
    monkeypatch.setattr(proxying.Local, "run", broken)
    call = await request().run(gateways[-1].app)
    assert (call.status, call.error["code"]) == (500, "internal_error")
    assert not ledger.only.open


async def test_a_fleet_that_cannot_be_reached_is_booked_no_tokens(gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    gateways.append(gateway_of(topology_of({"a": refused_url()}, {}), metering=metering(ledger)))
    call = await request().run(gateways[-1].app)
    assert (call.status, ledger.only.delivered) == (503, (0, 0, 0))


async def test_a_request_for_an_unknown_model_gives_all_back(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    await booking(nursery, gateways, ledger, STREAMED)
    call = await request(b'{"model": "unknown"}').run(gateways[-1].app)
    assert (call.status, ledger.only.nodes) == (404, [])
