"""Bare ASGI: bodies, whole answers and event streams, and work that ends with its client or its server."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from http_parts import Call, scope_of, sse_data
from trio.testing import MockClock

from helexa.web import asgi
from helexa.web.asgi import (
    ClientGoneError,
    Ending,
    EventStream,
    discard_body,
    origin_form,
    read_body,
    run_while_connected,
    send_body,
    serve_whole,
)
from helexa.web.server import Drain
from helexa.wire import errors, sse
from helexa.wire.errors import ApiError

EVENT = sse.event({"x": 1})


def receiver(*pieces: bytes, then: dict[str, Any] | None = None) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A `receive` that brings a body in pieces, then what is given; asked for more it fails."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages += [then or {"type": "http.request"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return receive


async def test_a_body_is_its_pieces() -> None:
    assert await read_body(scope_of("POST", "/"), receiver(b"a", b"", b"bc"), limit=3) == b"abc"


@pytest.mark.parametrize("declared", [None, b"4"])
async def test_a_body_over_the_limit_is_read_to_its_end_and_refused(declared: bytes | None) -> None:
    receive = receiver(b"ab", b"cd")
    scope = scope_of("POST", "/", [(b"content-length", declared)] if declared else [])
    with pytest.raises(ApiError, match="larger than 3 bytes") as raised:
        await read_body(scope, receive, limit=3)
    assert (raised.value.status, raised.value.code) == (413, "request_too_large")
    with pytest.raises(IndexError):
        await receive()


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_DISCARD_BYTES", 1000)
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 100
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    with pytest.raises(ApiError, match="larger than 3 bytes"):
        await read_body(scope_of("POST", "/"), receive, limit=3)
    await discard_body(receive)
    assert taken == 2 * 1100


async def test_many_small_pieces_cost_no_more_than_their_number() -> None:
    pieces = 200_000
    left = pieces

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    with trio.fail_after(3):  # copying what has come for each piece would take a minute
        assert len(await read_body(scope_of("POST", "/"), receive)) == pieces
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("read", [lambda receive: read_body(scope_of("POST", "/"), receive), discard_body])
async def test_a_client_that_leaves_before_its_body_is_whole(read: Callable[..., Awaitable[object]]) -> None:
    with pytest.raises(ClientGoneError):
        await read(receiver(b"a", then={"type": "http.disconnect"}))


async def test_an_application_behind_serve_whole_gets_the_body_at_once_and_then_the_disconnect() -> None:
    seen: list[dict[str, Any]] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        seen.extend([await receive(), await receive()])
        await send_body(send, 200, b"{}")

    call = Call.post("/", b"body")
    call.leave()
    await serve_whole(app, call.scope, call.receive, call.send)
    assert seen == [{"type": "http.request", "body": b"body", "more_body": False}, {"type": "http.disconnect"}]
    assert call.status == 200


async def test_serve_whole_answers_for_a_body_that_is_too_large() -> None:
    call = Call.post("/", b"x" * (asgi.MAX_BODY_BYTES + 1))
    await serve_whole(lambda *_: pytest.fail("served"), call.scope, call.receive, call.send)
    assert (call.status, call.error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/fleet", "/fleet"),
        ("//fleet", "/fleet"),
        ("///x//y", "/x//y"),
        ("http://x//fleet", "/fleet"),
        ("http://x/fleet", "/fleet"),
        ("http://x", "/"),
        ("", "/"),
        ("*", "/*"),
    ],
)
def test_a_path_begins_with_one_slash(path: str, expected: str) -> None:
    assert origin_form(scope_of("GET", path))["path"] == expected


async def test_an_answer_is_json_with_its_length_unless_told_otherwise() -> None:
    call, other = Call(scope_of("GET", "/")), Call(scope_of("GET", "/"))
    await send_body(call.send, 200, b"{}")
    assert (call.headers, call.answer) == ({b"content-type": b"application/json", b"content-length": b"2"}, b"{}")
    await send_body(other.send, 201, b"x", [(b"content-type", b"text/plain")])
    assert other.headers == {b"content-type": b"text/plain", b"content-length": b"1"}


async def test_a_stream_brings_its_status_with_its_first_event() -> None:
    call = Call(scope_of("POST", "/"))
    stream = EventStream(call.send, [(b"x-request-id", b"1")])
    await stream.write(b"")
    assert not stream.started
    assert call.messages == []
    await stream.write(EVENT)
    await stream.end(sse.DONE)
    assert (call.status, call.answer, call.ended) == (200, EVENT + sse.DONE, True)
    assert call.headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
        b"x-request-id": b"1",
    }


async def test_a_stream_without_events_is_an_empty_answer() -> None:
    call = Call(scope_of("POST", "/"))
    await EventStream(call.send).end()
    assert (call.status, call.answer, call.ended) == (200, b"", True)


async def test_a_failure_before_the_first_event_is_a_plain_answer() -> None:
    call = Call(scope_of("POST", "/"))
    await EventStream(call.send, [(b"x-request-id", b"1")]).fail(errors.unavailable("Later.", 2))
    assert (call.status, call.error["message"]) == (503, "Later.")
    assert (call.headers[b"retry-after"], call.headers[b"x-request-id"]) == (b"2", b"1")


async def test_a_failure_after_it_is_an_event_and_the_end_mark() -> None:
    call = Call(scope_of("POST", "/"))
    stream = EventStream(call.send)
    await stream.write(EVENT)
    await stream.fail(errors.upstream_error("It broke."))
    assert call.ended
    assert sse_data(call.answer) == [{"x": 1}, errors.upstream_error("It broke.").envelope(), "[DONE]"]


async def test_work_that_is_done_ends_the_watch(autojump_clock: MockClock) -> None:
    call = Call.post("/", b"")
    await read_body(call.scope, call.receive)
    assert await run_while_connected(partial(trio.sleep, 1), call.receive, Drain()) is Ending.DONE


async def test_a_client_that_leaves_cancels_the_work(autojump_clock: MockClock) -> None:
    call = Call.post("/", b"")
    await read_body(call.scope, call.receive)
    async with trio.open_nursery() as nursery:

        async def leave_later() -> None:
            await trio.sleep(1)
            call.leave()

        nursery.start_soon(leave_later)
        with trio.fail_after(1.5):
            assert await run_while_connected(trio.sleep_forever, call.receive, Drain()) is Ending.CLIENT_GONE


@pytest.mark.parametrize("before", [True, False], ids=["before it starts", "while it runs"])
async def test_a_drain_cuts_the_work(autojump_clock: MockClock, *, before: bool) -> None:
    call, drain = Call.post("/", b""), Drain()
    await read_body(call.scope, call.receive)
    async with trio.open_nursery() as nursery:

        async def cut() -> None:
            await trio.sleep(0 if before else 1)
            drain.cut()

        nursery.start_soon(cut)
        await trio.sleep(0.5)
        assert await run_while_connected(trio.sleep_forever, call.receive, drain) is Ending.CUT


async def test_work_that_a_drain_does_not_reach_in_time_is_done(autojump_clock: MockClock) -> None:
    call, drain = Call.post("/", b""), Drain()
    await read_body(call.scope, call.receive)
    assert await run_while_connected(trio.lowlevel.checkpoint, call.receive, drain) is Ending.DONE
    drain.cut()
    assert drain._scopes == set()


async def test_an_error_of_the_work_comes_out_bare() -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise errors.upstream_error("It broke.")

    call = Call.post("/", b"")
    await read_body(call.scope, call.receive)
    with pytest.raises(ApiError, match=r"It broke\."):
        await run_while_connected(work, call.receive, Drain())


@pytest.mark.parametrize("messages_sent", [0, 1, 2, 3])
async def test_a_cut_at_any_moment_leaves_a_well_formed_stream(messages_sent: int) -> None:
    """The work is cancelled inside one of its sends: what was begun is sent, and one end follows."""
    drain = Drain()

    async def pace() -> None:
        if len(call.messages) == messages_sent:
            drain.cut()
        await trio.lowlevel.checkpoint()

    call = Call(scope_of("POST", "/"), pace=pace)
    await read_body(call.scope, call.receive)
    stream = EventStream(call.send)

    async def work() -> None:
        while True:
            await stream.write(EVENT)
            await trio.lowlevel.checkpoint()

    assert await run_while_connected(work, call.receive, drain) is Ending.CUT
    await stream.fail(errors.unavailable("Stopping.", 2))
    *events, error, end = sse_data(call.answer)
    assert events == [{"x": 1}] * max(1, messages_sent)
    assert (error["error"]["message"], end) == ("Stopping.", "[DONE]")


async def test_a_cut_does_not_halve_a_whole_answer() -> None:
    drain = Drain()

    async def pace() -> None:
        drain.cut()
        await trio.lowlevel.checkpoint()

    call = Call(scope_of("POST", "/"), pace=pace)
    await read_body(call.scope, call.receive)
    ending = await run_while_connected(lambda: send_body(call.send, 200, b"{}"), call.receive, drain)
    assert ending is Ending.DONE
    assert (call.status, call.answer, call.ended) == (200, b"{}", True)


async def test_a_cut_while_the_last_bytes_leave_comes_too_late() -> None:
    drain = Drain()

    async def pace() -> None:
        if call.messages:
            drain.cut()
        await trio.lowlevel.checkpoint()

    call = Call(scope_of("POST", "/"), pace=pace)
    await read_body(call.scope, call.receive)
    stream = EventStream(call.send)
    assert await run_while_connected(lambda: stream.end(sse.DONE), call.receive, drain) is Ending.DONE
    assert call.answer == sse.DONE


async def test_a_stream_may_last_for_hours(autojump_clock: MockClock) -> None:
    call = Call.post("/", b"")
    await read_body(call.scope, call.receive)
    stream = EventStream(call.send)

    async def work() -> None:
        for _ in range(60):
            await trio.sleep(120)
            await stream.write(EVENT)
        await stream.end(sse.DONE)

    assert await run_while_connected(work, call.receive, Drain()) is Ending.DONE
    assert sse_data(call.answer) == [{"x": 1}] * 60 + ["[DONE]"]
