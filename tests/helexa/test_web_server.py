"""Serving on real sockets: answers that arrive whatever the client still sends, and the order of a shutdown."""

import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn

import httpx
import orjson
import pytest
import trio
import trio.testing
from http_parts import RawClient, live, request_bytes, sse_data, start_app, until
from quart import Response
from quart_trio import QuartTrio

from helexa.web import server
from helexa.web.asgi import (
    MAX_BODY_BYTES,
    ClientGoneError,
    Ending,
    EventStream,
    read_body,
    run_while_connected,
    send_body,
    send_error,
    serve_whole,
)
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import App, Drain, PortInUseError, Receive, Scope, Send, bind, serve
from helexa.wire import errors, sse
from helexa.wire.errors import ApiError

TWENTY_MB = b"x" * 20_000_000
EVENT = sse.event({"x": 1})


async def length_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    try:
        body = await read_body(scope, receive)
        await send_body(send, 200, b"%d" % len(body))
    except ApiError as error:
        await send_error(send, error)
    except ClientGoneError:
        pass


def control_app() -> QuartTrio:
    app = json_app("test")

    @app.get("/thing/<name>")
    async def thing(name: str) -> Response:
        return json_response(orjson.dumps({"name": name}))

    @app.post("/fault")
    async def fault() -> NoReturn:
        raise RuntimeError("secret detail")

    @app.post("/refused")
    async def refused() -> NoReturn:
        raise errors.unavailable("Later.", 7)

    return app


def whole(app: Any) -> App:
    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await serve_whole(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return run


@pytest.mark.parametrize("app", [length_app, whole(control_app())], ids=["bare", "quart"])
async def test_a_large_body_is_refused_and_the_client_sees_the_answer(nursery: trio.Nursery, app: App) -> None:
    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        status, headers, body = await client.request(request_bytes("POST", "/refused", TWENTY_MB))
        assert (status, headers[b"content-type"]) == (413, b"application/json")
        assert orjson.loads(body)["error"]["code"] == "request_too_large"
        assert (await client.request(request_bytes("POST", "/refused", b"{}")))[0] in (200, 503)
    async with httpx.AsyncClient() as http:
        response = await http.post(f"http://127.0.0.1:{port}/refused", content=TWENTY_MB)
        assert response.status_code == 413
        assert f"larger than {MAX_BODY_BYTES} bytes" in response.json()["error"]["message"]


async def test_a_chunked_body_without_a_length_is_refused_too(nursery: trio.Nursery) -> None:
    port = await start_app(nursery, length_app)

    async def body() -> Any:
        for _ in range(20):
            yield TWENTY_MB[:1_000_000]

    async with httpx.AsyncClient() as http:
        response = await http.post(f"http://127.0.0.1:{port}/", content=body())
    assert response.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/thing/", 404, "not_found"),
        ("GET", "/thing//x", 404, "not_found"),
        ("GET", "/%ff%00/..", 404, "not_found"),
        ("OPTIONS", "*", 404, "not_found"),
        ("BREW", "/thing/x", 405, "method_not_allowed"),
        ("DELETE", "/thing/x", 405, "method_not_allowed"),
        ("POST", "/fault", 500, "internal_error"),
        ("POST", "/refused", 503, "service_unavailable"),
    ],
)
async def test_every_failure_is_an_envelope(
    nursery: trio.Nursery, method: str, path: str, status: int, code: str
) -> None:
    port = await start_app(nursery, whole(control_app()))
    async with await RawClient.connect(port) as client:
        found, headers, body = await client.request(request_bytes(method, path, b"{"))
    assert (found, headers[b"content-type"]) == (status, b"application/json")
    error = orjson.loads(body)["error"]
    assert (error["code"], set(error)) == (code, {"message", "type", "code", "param"})
    assert b"secret" not in body
    assert headers.get(b"allow") == (b"GET" if status == 405 else None)
    assert headers.get(b"retry-after") == (b"7" if status == 503 else None)


async def test_a_connection_serves_request_after_request(nursery: trio.Nursery) -> None:
    port = await start_app(nursery, length_app)
    async with await RawClient.connect(port) as client:
        answers = [await client.request(request_bytes("POST", "/", b"x" * size)) for size in (0, 1, 70_000)]
    assert [body for _, _, body in answers] == [b"0", b"1", b"70000"]


async def test_a_client_that_leaves_mid_body_leaves_nothing_behind(nursery: trio.Nursery) -> None:
    running = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += scope["type"] == "http"
        try:
            await length_app(scope, receive, send)
        finally:
            running -= scope["type"] == "http"

    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", "/", TWENTY_MB)[:100_000])
        await until(lambda: running == 1)
    await until(lambda: running == 0)


def stream_app(work: Callable[[EventStream], Awaitable[None]], drain: Drain, endings: list[Ending]) -> App:
    """What the inference routes do, with `work` in place of a model."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        await read_body(scope, receive)
        stream = EventStream(send)
        ending = await run_while_connected(partial(work, stream), receive, drain)
        endings.append(ending)
        if ending is Ending.CUT:
            await stream.fail(errors.unavailable("The server is shutting down.", 2))

    return app


async def one_event_then_nothing(stream: EventStream) -> None:
    await stream.write(EVENT)
    await trio.sleep_forever()


async def endless_events(stream: EventStream) -> None:
    while True:
        await stream.write(EVENT)
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("work", [one_event_then_nothing, endless_events])
async def test_a_client_that_leaves_cancels_the_work(nursery: trio.Nursery, work: Any) -> None:
    endings: list[Ending] = []
    drain = Drain()
    port = await start_app(nursery, stream_app(work, drain, endings), drain)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", "/"))
        await client.read_until(EVENT)
    await until(lambda: endings == [Ending.CLIENT_GONE])


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(server, "CUT_SECONDS", 0.2)


async def never_answers(_: EventStream) -> None:
    await trio.sleep_forever()


@pytest.mark.usefixtures("_quick")
async def test_a_stream_in_flight_at_shutdown_ends_with_an_error_event() -> None:
    drain, answers = Drain(), []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await start_app(nursery, stream_app(one_event_then_nothing, drain, []), drain)

            async def ask() -> None:
                async with await RawClient.connect(port) as client:
                    answers.append(await client.request(request_bytes("POST", "/")))

            nursery.start_soon(ask)
            await until(lambda: len(drain._scopes) == 1)
            drain.stopping.set()
    ((status, _, body),) = answers
    event, error, end = sse_data(body)
    assert (status, event, end) == (200, {"x": 1}, "[DONE]")
    assert error["error"]["message"] == "The server is shutting down."


@pytest.mark.usefixtures("_quick")
async def test_a_request_without_an_answer_yet_at_shutdown_gets_a_503() -> None:
    drain, answers = Drain(), []
    async with trio.open_nursery() as nursery:
        port = await start_app(nursery, stream_app(never_answers, drain, []), drain)

        async def ask() -> None:
            async with await RawClient.connect(port) as client:
                answers.append(await client.request(request_bytes("POST", "/")))

        nursery.start_soon(ask)
        await until(lambda: len(drain._scopes) == 1)
        drain.stopping.set()
    ((status, headers, body),) = answers
    assert (status, headers[b"retry-after"]) == (503, b"2")
    assert orjson.loads(body)["error"]["code"] == "service_unavailable"


async def test_a_server_with_nothing_in_flight_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 60)
    drain = Drain()
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            port = await start_app(nursery, length_app, drain)
            async with await RawClient.connect(port) as client:
                await client.request(request_bytes("POST", "/"))
                drain.stopping.set()
                assert await client.stream.receive_some() == b""


async def test_a_request_that_ends_within_the_drain_is_not_cut() -> None:
    drain, finish, endings = Drain(), trio.Event(), []

    async def work(stream: EventStream) -> None:
        await stream.write(EVENT)
        await finish.wait()
        await stream.end(sse.DONE)

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            port = await start_app(nursery, stream_app(work, drain, endings), drain)
            async with await RawClient.connect(port) as client:
                await client.stream.send_all(request_bytes("POST", "/"))
                await until(lambda: len(drain._scopes) == 1)
                drain.stopping.set()
                await trio.testing.wait_all_tasks_blocked()
                finish.set()
                assert sse_data((await client.response())[2]) == [{"x": 1}, "[DONE]"]
    assert endings == [Ending.DONE]


async def test_no_new_connection_is_taken_while_a_stream_drains() -> None:
    drain = Drain()
    async with trio.open_nursery() as nursery:
        port = await start_app(nursery, stream_app(never_answers, drain, []), drain)
        async with await RawClient.connect(port) as client:
            await client.stream.send_all(request_bytes("POST", "/"))
            await until(lambda: len(drain._scopes) == 1)
            drain.stopping.set()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("127.0.0.1", port)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("cancelled", [False, True], ids=["drained", "cancelled"])
async def test_the_port_is_free_again_once_serve_has_returned(*, cancelled: bool) -> None:
    drain = Drain()
    async with trio.open_nursery() as nursery:
        port = await start_app(nursery, length_app, drain)
        if cancelled:
            nursery.cancel_scope.cancel()
        drain.stopping.set()
    bind("127.0.0.1", port, "test").close()


async def test_serve_owns_the_socket_it_is_given() -> None:
    drain, sock = Drain(), bind("127.0.0.1", 0, "test")
    number = sock.fileno()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, length_app, sock, drain)
        assert sock.fileno() == -1
        os.fstat(number)
        drain.stopping.set()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_port_in_use_is_named_with_who_asked_for_it() -> None:
    with bind("127.0.0.1", 0, "first") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError) as raised:
            bind("127.0.0.1", port, "cortex.listen")
    assert str(raised.value) == (
        f"cannot listen on 127.0.0.1:{port}, which cortex.listen asks for: Address already in use. "
        "Stop what holds the port, or give cortex.listen another one."
    )


@pytest.mark.parametrize(
    ("host", "shown"), [("192.0.2.1", "192.0.2.1:5"), ("2001:db8::1", "[2001:db8::1]:5"), ("a" * 70, "a" * 70 + ":5")]
)
def test_an_address_that_is_not_this_hosts_is_named(host: str, shown: str) -> None:
    with pytest.raises(PortInUseError) as raised:
        bind(host, 5, "neurons.a.listen")
    message = str(raised.value)
    assert message.startswith(f"cannot listen on {shown}, which neurons.a.listen asks for: ")
    assert message.endswith(". Give neurons.a.listen another one.")


def test_a_bound_socket_listens_and_cuts_off_stalled_readers() -> None:
    with bind("localhost", 0, "test") as sock, socket.create_connection(sock.getsockname()[:2]):
        milliseconds = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert milliseconds == server.STALLED_READER_MS
