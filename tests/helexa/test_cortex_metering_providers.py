"""What is booked of answers that come from outside the fleet, and how their servers are made to tell it."""

from collections.abc import Callable

import orjson
import pytest
import trio
from charges import METERED, METERED_HEAD, FakeLedger, metering, request
from gateways import ANSWER, DONE, Gateway, chat, gateway_of, provider, told
from http_parts import SSE_HEAD, Peer, Play, Script, chunk, plays, sse_data, start_script, until, whole
from structlog.testing import capture_logs
from upstream_answers import STREAMS, WHOLE

from config import Cost, Provider, Route, Topology
from helexa.cortex.exchange.relays import without_usage
from helexa.cortex.ledger.limits import Prices
from helexa.wire import meter
from helexa.wire.sse import event

ROUTE = Route("out*", ("p",), cost=Cost(3.0, 5.0))
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up"}
WORDS = [event({**HEAD, "choices": [{"index": 0, "delta": {"content": each}}], "usage": None}) for each in "ab"]
STOP = event({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
USED = event({**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}})
STREAM = b"".join([*WORDS, STOP, USED, DONE])
HI = chat("out", stream=True)
ABOUT = -(-len(HI) // 4)
REFUSED = (
    b'{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error"}}'
)


def streamed(stream: bytes) -> Play:
    return plays(SSE_HEAD + chunk(stream) + chunk(b""))


async def outside(
    nursery: trio.Nursery,
    gateways: list[Gateway],
    ledger: FakeLedger,
    *scripted: Play,
    made: Callable[[str, str], Provider] = provider,
) -> Script:
    """A gateway that books, without neurons, and with a provider, `p`."""
    script = await start_script(nursery, *scripted)
    topology = Topology(providers=(made("p", script.url),), routes=(ROUTE,))
    gateways.append(gateway_of(topology, metering=metering(ledger)))
    return script


async def test_a_stream_is_asked_to_tell_what_it_used_and_its_client_does_not_see_it(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    script = await outside(nursery, gateways, ledger, streamed(STREAM))
    call = await request(HI).run(gateways[-1].app)
    assert call.answer == STREAM.replace(USED, b"")
    assert orjson.loads(script.requests[0][1]) == {**orjson.loads(HI), "stream_options": {"include_usage": True}}
    assert ledger.only.told[0] == ("sent", "provider:p", Prices(3 * 10**6, 5 * 10**6))
    assert ledger.only.delivered == (3, 5, 0)


async def test_who_asks_for_the_usage_gets_it_and_the_request_is_passed_on_as_it_is(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    script = await outside(nursery, gateways, ledger, streamed(STREAM))
    body = chat("out", stream=True, stream_options={"include_usage": True})
    call = await request(body).run(gateways[-1].app)
    assert (call.answer, script.requests[0][1]) == (STREAM, body)
    assert ledger.only.delivered == (3, 5, 0)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"stream_options": {"other": 1, "include_usage": False}}),
        ("/v1/completions", {"prompt": "x"}),
    ],
)
async def test_what_else_was_asked_of_a_stream_is_kept(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, fields: dict[str, object]
) -> None:
    script = await outside(nursery, gateways, FakeLedger(), streamed(STREAM))
    call = await request(chat("out", stream=True, **fields), path).run(gateways[-1].app)
    given = fields.get("stream_options", {})
    assert isinstance(given, dict)
    assert orjson.loads(script.requests[0][1])["stream_options"] == {**given, "include_usage": True}
    assert USED not in call.answer


async def test_an_answer_in_one_piece_is_not_asked_for_what_it_tells_anyway(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger()
    script = await outside(nursery, gateways, ledger, plays(whole(orjson.dumps(WHOLE["openai"]))))
    body = chat("out")
    await request(body).run(gateways[-1].app)
    assert script.requests[0][1] == body
    assert ledger.only.delivered == (3, 5, 0)


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable"])
async def test_a_provider_that_cannot_be_asked_is_asked_without_and_never_again(
    nursery: trio.Nursery, gateways: list[Gateway], status: str
) -> None:
    ledger = FakeLedger()
    plain = b"".join([*WORDS, STOP, DONE])
    script = await outside(nursery, gateways, ledger, plays(whole(REFUSED, status)), streamed(plain))
    for attempts in (b"2", b"1"):
        call = await request(HI).run(gateways[-1].app)
        assert (told(call), call.answer) == ((200, b"provider:p", attempts), plain)
    assert [b"stream_options" in body for _, body in script.requests] == [True, False, False]
    assert script.requests[1][1] == HI
    assert [each.delivered for each in ledger.charges] == [(ABOUT, 3, 0)] * 2


async def test_a_translated_request_is_asked_without_as_well(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    script = await outside(nursery, gateways, ledger, plays(whole(REFUSED, "400 Bad Request")), streamed(STREAM))
    body = chat("out", stream=True, max_tokens=9)
    call = await request(body, "/v1/messages").run(gateways[-1].app)
    assert (call.status, len(script.requests)) == (200, 2)
    assert b"stream_options" not in script.requests[1][1]


async def test_a_client_whose_own_wish_is_refused_is_told_so(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script = await outside(nursery, gateways, FakeLedger(), plays(whole(REFUSED, "400 Bad Request")))
    call = await request(chat("out", stream=True, stream_options={"include_usage": True})).run(gateways[-1].app)
    assert (call.status, call.answer, len(script.requests)) == (400, REFUSED, 1)


async def test_another_refusal_is_no_reason_to_ask_again(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    error = b'{"error":{"message":"too long","type":"invalid_request_error"}}'
    script = await outside(nursery, gateways, FakeLedger(), plays(whole(error, "400 Bad Request")))
    call = await request(HI).run(gateways[-1].app)
    assert (call.status, call.answer, len(script.requests)) == (400, error, 1)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize("stream", [True, False])
async def test_every_kind_of_server_is_booked_by_what_it_tells(
    nursery: trio.Nursery,
    gateways: list[Gateway],
    kind: str,
    stream: bool,  # noqa: FBT001 - one of a table
) -> None:
    ledger = FakeLedger()
    head, events = STREAMS[kind]
    answer = whole(events, kind=head) if stream else whole(orjson.dumps(WHOLE[kind]))
    made = lambda name, url: provider(name, url, kind)  # noqa: E731
    await outside(nursery, gateways, ledger, plays(answer), made=made)
    with capture_logs() as lines:
        call = await request(chat("out", stream=stream, max_tokens=9), "/v1/messages").run(gateways[-1].app)
    assert call.status == 200
    assert ledger.only.delivered == (3, 5, 0)
    assert not any("estimated" in line for line in lines)


async def test_who_leaves_a_stream_has_used_the_events_it_was_sent(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    async def play(peer: Peer) -> None:
        await peer.send(SSE_HEAD, chunk(WORDS[0]), chunk(WORDS[1]))
        await peer.wait_closed()

    ledger = FakeLedger()
    await outside(nursery, gateways, ledger, play)
    call = request(HI)
    with capture_logs() as lines:
        async with trio.open_nursery() as both:
            both.start_soon(call.run, gateways[-1].app)
            await until(lambda: WORDS[1] in call.answer)
            call.leave()
    assert ledger.only.delivered == (ABOUT, 2, 0)
    assert next(line for line in lines if line["event"] == "request.ended")["estimated"] is True


async def test_nobody_outside_is_asked_for_more_than_the_budget_leaves(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger(((900, 40, False), (900, 40, True)))
    script = await outside(nursery, gateways, ledger, streamed(STREAM))
    call = await request(HI).run(gateways[-1].app)
    assert (call.status, call.error["code"]) == (429, "insufficient_quota")
    assert (script.requests, ledger.only.nodes) == ([], [])
    assert (await request(HI).run(gateways[-1].app)).status == 200
    assert meter.BUDGET not in script.requests[0][0]


async def test_a_providers_word_is_not_a_neurons(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger()
    answer = whole(ANSWER, extra="x-helexa-usage: 1 0 0\r\n")
    lying = plays(METERED_HEAD + b"".join(chunk(each) for each in [*METERED[:3], DONE, b""]))
    exceeded = plays(whole(meter.ExceededError.of(1, 2, 0).body(), "429 Full"))
    await outside(nursery, gateways, ledger, plays(answer), lying, exceeded, plays(answer))
    usage = orjson.loads(ANSWER)["usage"]
    await request(chat("out")).run(gateways[-1].app)
    assert ledger.only.delivered[:2] == (usage["prompt_tokens"], usage["completion_tokens"])
    ledger.charges.clear()
    call = await request(HI).run(gateways[-1].app)
    assert b":u 9 2 4\n" in call.answer  # a comment as any other
    assert ledger.only.delivered == (ABOUT, 2, 0)


def test_only_the_event_that_is_nothing_but_usage_is_taken_out() -> None:
    first = event({"choices": [], "prompt_filter_results": [], "usage": None})
    said = event({**HEAD, "choices": [{"index": 0, "delta": {"content": '"choices":[] "usage":{}'}}]})
    crlf = USED.replace(b"\n", b"\r\n")
    for events in (first, said, WORDS[0], DONE, b": ping\n\n", b"", b'data: {"choices":[]\n\n', b'x: "choices":[]\n\n'):
        assert without_usage(events) == events
        assert without_usage(events + USED + events) == events + events
        assert without_usage(events + crlf + events) == events + events
    assert sse_data(without_usage(STREAM)) == sse_data(STREAM.replace(USED, b""))
