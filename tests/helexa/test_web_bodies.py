"""Request bodies that are too large, too slow or too many at a time."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import trio
from attrs import evolve
from http_parts import Call, RawClient, chunk, live, request_bytes, scope_of, start_app, until
from trio.testing import MockClock, wait_all_tasks_blocked

from config import Limits
from config.units import Duration, Size
from helexa.web import asgi
from helexa.web.asgi import ClientGoneError, discard_body, read_body, send_body, send_error, serve_whole
from helexa.web.bodies import Bodies
from helexa.web.server import Receive, Scope, Send
from helexa.wire.errors import ApiError

LIMITS = Limits(body=Size(100), bodies=Size(250), body_timeout=Duration(10))
POST = scope_of("POST", "/")


def declaring(length: int | bytes) -> Scope:
    return scope_of("POST", "/", [(b"content-length", b"%d" % length if isinstance(length, int) else length)])


def bodies_of(limits: Limits = LIMITS) -> Bodies:
    return Bodies(lambda: limits)


class Sender:
    """A client's body, a piece whenever it is told to; the messages are those of a server."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](1000)

    def piece(self, data: bytes, *, more: bool = True) -> None:
        self._send.send_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self._send.send_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._receive.receive()


def sends(*pieces: bytes) -> Sender:
    """A body that is all there."""
    sender = Sender()
    for piece in pieces:
        sender.piece(piece)
    sender.piece(b"", more=False)
    return sender


async def refusal(bodies: Bodies, scope: Scope, receive: Receive) -> ApiError:
    with pytest.raises(ApiError) as raised:
        async with bodies.read(scope, receive):
            pytest.fail("taken")
    return raised.value


async def test_a_body_is_held_until_its_request_ends() -> None:
    bodies = bodies_of()
    async with bodies.read(POST, sends(b"a" * 60, b"b" * 40).receive) as raw:
        assert (raw, bodies.held) == (b"a" * 60 + b"b" * 40, 100)
        async with bodies.read(POST, sends(b"c" * 100).receive):
            assert bodies.held == 200
        assert bodies.held == 100
    assert bodies.held == 0


async def test_a_body_is_given_back_when_its_request_fails() -> None:
    bodies = bodies_of()
    with pytest.raises(ZeroDivisionError):
        async with bodies.read(POST, sends(b"a").receive):
            raise ZeroDivisionError
    assert bodies.held == 0


@pytest.mark.parametrize("scope", [POST, declaring(101)], ids=["not announced", "announced"])
async def test_a_body_over_the_limit_is_read_to_its_end_and_refused(scope: Scope) -> None:
    bodies, sender = bodies_of(), sends(b"a" * 60, b"b" * 41)
    error = await refusal(bodies, scope, sender.receive)
    assert (error.status, error.code) == (413, "request_too_large")
    assert "larger than 100 bytes" in str(error)
    assert bodies.held == 0
    with pytest.raises(trio.WouldBlock):
        sender._receive.receive_nowait()


async def test_a_body_larger_than_all_may_be_together_is_too_large_by_itself() -> None:
    error = await refusal(bodies_of(evolve(LIMITS, bodies=Size(50))), POST, sends(b"a" * 60).receive)
    assert (error.status, str(error)) == (413, "The request body is larger than 50 bytes.")


@pytest.mark.parametrize("scope", [POST, declaring(100)], ids=["not announced", "announced"])
async def test_a_body_that_would_be_one_too_many_is_asked_to_come_again(scope: Scope) -> None:
    bodies = bodies_of()
    async with bodies.read(POST, sends(b"a" * 90).receive), bodies.read(POST, sends(b"b" * 90).receive):
        sender = sends(b"c" * 60, b"c" * 40)
        error = await refusal(bodies, scope, sender.receive)
        assert (error.status, error.code, error.retry_after) == (503, "service_unavailable", 2)
        assert bodies.held == 180
        with pytest.raises(trio.WouldBlock):
            sender._receive.receive_nowait()
        async with bodies.read(declaring(70), sends(b"d" * 70).receive):
            assert bodies.held == 250
    async with bodies.read(scope, sends(b"c" * 100).receive):
        assert bodies.held == 100


async def test_a_body_that_is_refused_while_it_comes_is_not_held_for_what_is_still_to_come(
    nursery: trio.Nursery,
) -> None:
    bodies, late = bodies_of(), Sender()
    async with bodies.read(POST, sends(b"a" * 100).receive):
        nursery.start_soon(refusal, bodies, POST, late.receive)
        late.piece(b"b" * 90)
        await wait_all_tasks_blocked()
        async with bodies.read(POST, sends(b"c" * 50).receive):
            assert bodies.held == 240
            late.piece(b"b" * 11)
            await wait_all_tasks_blocked()
            assert bodies.held == 150
        late.piece(b"", more=False)


async def test_what_is_announced_and_not_sent_takes_no_room(nursery: trio.Nursery) -> None:
    bodies, silent = bodies_of(), [Sender() for _ in range(20)]
    for sender in silent:
        nursery.start_soon(refusal, bodies, declaring(100), sender.receive)
    await wait_all_tasks_blocked()
    async with bodies.read(declaring(100), sends(b"a" * 100).receive):
        assert bodies.held == 100
    nursery.cancel_scope.cancel()


async def test_a_client_that_takes_too_long_is_told_and_cut_off(autojump_clock: MockClock) -> None:
    bodies, slow = bodies_of(), Sender()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                slow.piece(b"x")
                await trio.sleep(1)

        nursery.start_soon(drip)
        error = await refusal(bodies, POST, slow.receive)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == 10
    assert (error.status, error.code, error.type) == (408, "request_timeout", "invalid_request_error")
    assert str(error) == "The request body did not arrive within 10 s."
    assert error.headers() == [(b"connection", b"close")]
    assert bodies.held == 0


async def test_http_2_has_no_header_for_the_end_of_a_connection(autojump_clock: MockClock) -> None:
    error = await refusal(bodies_of(), {**POST, "http_version": "2"}, Sender().receive)
    assert (error.status, error.headers()) == (408, [])


@pytest.mark.parametrize("scope", [declaring(101), declaring(100)], ids=["too large", "one too many"])
async def test_one_that_is_refused_is_not_listened_to_for_longer_either(
    scope: Scope, autojump_clock: MockClock
) -> None:
    bodies = bodies_of(evolve(LIMITS, bodies=Size(150)))
    async with bodies.read(POST, sends(b"x" * 100).receive):
        began = trio.current_time()
        error = await refusal(bodies, scope, Sender().receive)
    assert trio.current_time() - began == 10
    assert error.status in {413, 503}


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    bodies, sender = bodies_of(), Sender()
    sender.piece(b"a" * 50)
    sender.leave()
    with pytest.raises(ClientGoneError):
        async with bodies.read(POST, sender.receive):
            pytest.fail("taken")
    assert bodies.held == 0


async def test_a_stop_while_a_body_comes_leaves_nothing_behind() -> None:
    bodies, sender = bodies_of(), Sender()
    sender.piece(b"a" * 50)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refusal, bodies, POST, sender.receive)
            await wait_all_tasks_blocked()
            assert bodies.held == 50
            scope.cancel()
    assert bodies.held == 0


async def test_limits_that_are_changed_count_for_the_next_request() -> None:
    limits = LIMITS
    bodies = Bodies(lambda: limits)
    assert (await refusal(bodies, POST, sends(b"a" * 120).receive)).status == 413
    limits = evolve(LIMITS, body=Size(120))
    async with bodies.read(POST, sends(b"a" * 120).receive) as raw:
        assert len(raw) == 120


@pytest.mark.parametrize("length", [b"9" * 5000, b"-1", b"1e3", b"", b"\xd9\xa1"])
async def test_a_length_that_is_no_number_is_not_believed(length: bytes) -> None:
    async with bodies_of().read(declaring(length), sends(b"a" * 100).receive) as raw:
        assert len(raw) == 100


async def test_a_body_may_be_larger_than_what_is_read_of_one_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_DISCARD_BYTES", 10)
    assert len(await read_body(POST, sends(*[b"x" * 30] * 3).receive, limit=90)) == 90
    with pytest.raises(ApiError, match="larger than 89 bytes"):
        await read_body(POST, sends(*[b"x" * 30] * 3).receive, limit=89)


async def test_an_early_refusal_waits_for_a_slow_body_no_longer_than_a_minute(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    await discard_body(Sender().receive)
    assert trio.current_time() - began == 60


async def test_an_application_may_have_its_body_held_and_a_refusal_sent() -> None:
    bodies, sizes = bodies_of(), []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        sizes.append((len((await receive())["body"]), bodies.held))
        await send_body(send, 200, b"{}")

    for size in (70, 101):
        call = Call.post("/", b"x" * size)
        await serve_whole(app, call.scope, call.receive, call.send, bodies.read(call.scope, call.receive))
    assert (sizes, call.status, call.error["code"]) == ([(70, 70)], 413, "request_too_large")
    assert bodies.held == 0


async def test_an_application_is_not_kept_waiting_for_a_slow_body(autojump_clock: MockClock) -> None:
    call = Call(POST)
    await serve_whole(lambda *_: pytest.fail("served"), call.scope, Sender().receive, call.send)
    assert trio.current_time() >= 60
    assert (call.status, call.error["code"], call.headers[b"connection"]) == (408, "request_timeout", b"close")


def serving(bodies: Bodies) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        try:
            async with bodies.read(scope, receive) as raw:
                await send_body(send, 200, orjson.dumps({"bytes": len(raw)}))
        except ApiError as error:
            await send_error(send, error)

    return app


async def test_over_a_socket_a_slow_client_sees_its_answer_and_the_connection_is_closed(
    nursery: trio.Nursery,
) -> None:
    bodies = bodies_of(evolve(LIMITS, body_timeout=Duration(0.05)))
    port = await start_app(nursery, serving(bodies))
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", "/", b"x" * 100)[:-10])
        status, headers, body = await client.response()
        assert (status, orjson.loads(body)["error"]["code"]) == (408, "request_timeout")
        assert headers[b"connection"] == b"close"
        with trio.fail_after(5):
            assert await client.stream.receive_some() == b""
        await until(lambda: not bodies.held)
    nursery.cancel_scope.cancel()


async def test_over_a_socket_a_refused_body_leaves_the_connection_in_use(nursery: trio.Nursery) -> None:
    bodies = bodies_of()
    port = await start_app(nursery, serving(bodies))
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    async with await RawClient.connect(port) as client:
        for pieces, status in ((5, 413), (2, 200)):
            found, _, _ = await client.request(head + chunk(b"x" * 50) * pieces + chunk(b""))
            assert found == status
        await until(lambda: not bodies.held)
    nursery.cancel_scope.cancel()
