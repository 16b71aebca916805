"""Streams in which nothing happens for a while: comments say that somebody is there, and change nothing."""

import trio
from engine_port import FakeEngines, Submitted
from http_parts import Call
from neurons import ask, complete
from trio.testing import MockClock

from helexa.neuron.exchange import KEEP_ALIVE_SECONDS
from helexa.neuron.ports import End
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.wire import errors, meter, sse

SILENCE = 3.5 * KEEP_ALIVE_SECONDS


async def silent_after(app: Front, call: Call, engines: FakeEngines, ids: list[int], end: End | None = None) -> Call:
    """Make the call; the engine brings ``ids``, nothing for a while, and then the end."""

    def script(submitted: Submitted) -> None:
        submitted.extend(ids)

    engines.on_submit = script
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, app)
        await trio.sleep(SILENCE)
        engines.submitted[-1].finish(end or End("stop"))
    return call


async def test_a_silent_stream_says_every_few_seconds_that_it_lives(
    autojump_clock: MockClock, app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    call = await silent_after(app, ask(stream=True), engines, text.encode("Hello"))
    assert call.answer.count(sse.KEEP_ALIVE) == 3
    before, after = call.answer.split(sse.KEEP_ALIVE * 3)
    assert b'"content":"Hello"' in before
    assert b'"finish_reason":"stop"' in after


async def test_a_chat_that_has_no_token_yet_lives_as_well(
    autojump_clock: MockClock, app: Front, engines: FakeEngines
) -> None:
    call = await silent_after(app, ask(stream=True), engines, [])
    assert call.answer.count(sse.KEEP_ALIVE) == 3


async def test_nothing_is_said_before_the_first_event_so_a_failure_can_still_be_an_answer(
    autojump_clock: MockClock, app: Front, engines: FakeEngines
) -> None:
    failed = End("failed", "rate_limit_exceeded", "No place became free.")
    call = await silent_after(app, complete(stream=True), engines, [], failed)
    assert (call.status, call.error["code"]) == (429, "rate_limit_exceeded")


async def test_a_gateway_that_counts_takes_comments_for_nothing(
    autojump_clock: MockClock, app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    call = ask(stream=True)
    call.scope["headers"].append((meter.HEADER, meter.ON))
    await silent_after(app, call, engines, ids := text.encode("Hello"))
    reader = meter.Reader()
    head, _, _ = call.answer.partition(b"data: [DONE]")
    shown = reader.push(head)
    assert shown.count(sse.KEEP_ALIVE) == 3
    assert b":u" not in shown
    assert reader.totals is not None
    assert reader.totals[1] == len(ids)


async def test_an_answer_in_one_piece_waits_in_silence(
    autojump_clock: MockClock, app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    call = await silent_after(app, ask(), engines, text.encode("Hello"))
    assert (call.status, b"keep-alive" in call.answer) == (200, False)


async def test_what_the_engine_has_given_up_ends_a_stream_that_lives(
    autojump_clock: MockClock, app: Front, engines: FakeEngines, text: ChatTokenizer
) -> None:
    failed = End("failed", "service_unavailable", "No other one came in time.")
    call = await silent_after(app, ask(stream=True), engines, text.encode("Hello"), failed)
    error = errors.unavailable("No other one came in time.", 2)
    assert call.answer.endswith(sse.KEEP_ALIVE + sse.event(error.envelope()) + sse.DONE)
