"""The measuring client against real servers that do what they should."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter

import pytest
import trio
from scripted_servers import DONE, END, STREAM, UNFRAMED, Server, Step, Stream, chunk, hold, reset, until, whole
from trio.testing import MockClock

from helexa.bench.client import connections
from helexa.bench.client.http import Client, Exchange, TargetError, refusal

Serve = Callable[..., Awaitable[Server]]
CHAT = "/v1/chat/completions"


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    """Start a server with a script for each connection."""

    async def start(*scripts: Sequence[Sequence[Step]]) -> Server:
        return await Server(scripts).start(nursery)

    return start


def payloads(exchange: Exchange) -> list[bytes]:
    return [data for _, data in exchange.events]


async def test_a_stream_is_its_events_and_when_each_came(serve: Serve) -> None:
    server = await serve([[STREAM, *(chunk(b"data: %d\n\n" % each) for each in range(3)), chunk(DONE) + END]])
    before = perf_counter()
    async with Client(server.url) as client:
        found = await client.post(CHAT, {"stream": True})
    times = [at for at, _ in found.events]
    assert (found.status, payloads(found), found.done, found.body) == (200, [b"0", b"1", b"2"], True, b"")
    ordered = [before, found.sent_at, found.head_at, *times, found.ended_at, perf_counter()]
    assert ordered == sorted(ordered)


async def test_an_answer_that_is_no_stream_is_its_body(serve: Serve) -> None:
    server = await serve([[whole(b'{"a": [1]}', b"X-One: 1", b"x-one: 2")]])
    async with Client(server.url) as client:
        found = await client.get("/version")
    assert (found.json(), found.events, found.done, found.ok) == ({"a": [1]}, (), True, True)
    assert found.headers == {"content-length": "10", "x-one": "1, 2"}


async def test_what_is_sent_is_http(serve: Serve) -> None:
    server = await serve([[whole(b"")], [whole(b"")]])
    async with Client(f"{server.url}/base/", {"Authorization": "Bearer sk-1", "User-Agent": "me"}) as client:
        await client.post("/v1/x?y=1", {"ä": 1})
        await client.get("/health")
    authority = server.url.removeprefix("http://").encode()
    common = b"user-agent: me\r\naccept: */*\r\naccept-encoding: identity\r\nhost: %b\r\nauthorization: Bearer sk-1\r\n"
    framing = b'content-type: application/json\r\ncontent-length: 8\r\n\r\n{"\xc3\xa4":1}'
    assert server.requests == [
        b"POST /base/v1/x?y=1 HTTP/1.1\r\n" + common % authority + framing,
        b"GET /base/health HTTP/1.1\r\n" + common % authority + b"\r\n",
    ]


async def test_bytes_are_sent_as_they_are(serve: Serve) -> None:
    server = await serve([[whole(b"")]])
    async with Client(server.url) as client:
        await client.post("/x", b"{ }")
    assert server.requests[0].endswith(b"\r\n\r\n{ }")


async def test_an_error_is_returned_and_can_be_told(serve: Serve) -> None:
    server = await serve([[whole(b'{"error": {"message": "No such model."}}', status=b"404 Not Found")]])
    async with Client(server.url) as client:
        found = await client.post(CHAT, {})
    told = refusal(found)
    assert (found.ok, told.code, str(told)) == (False, "refused", "It answered with status 404: No such model.")


async def test_a_key_that_the_server_repeats_in_its_error_is_hidden(serve: Serve) -> None:
    body = b'{"error": "wrong key sk-geheim, and xyz-geheim"}'
    server = await serve([[whole(body, status=b"401 Unauthorized")], [whole(b"sk-geheim")]])
    async with Client(server.url, {"authorization": "Bearer sk-geheim", "x-api-key": "xyz-geheim"}) as client:
        found = await client.get("/")
        assert found.json() == {"error": "wrong key [key], and [key]"}
        assert (await client.get("/")).body == b"sk-geheim"


async def test_requests_one_after_another_share_a_connection(serve: Serve) -> None:
    server = await serve([[STREAM, chunk(DONE), END], [whole(b"{}")], [STREAM + chunk(b"data: x\n\n") + END]])
    async with Client(server.url) as client:
        for _ in range(3):
            await client.post(CHAT, {})
        assert (server.connections, len(server.requests)) == (1, 3)
    await until(lambda: server.open == 0)


async def test_requests_at_a_time_have_a_connection_each_and_leave_them_for_later(
    serve: Serve, nursery: trio.Nursery
) -> None:
    server = await serve([[0.0, whole(b"")], [whole(b"")]])
    async with Client(server.url) as client:
        async with trio.open_nursery() as crowd:
            for _ in range(8):
                crowd.start_soon(client.get, "/")
        async with trio.open_nursery() as crowd:
            for _ in range(8):
                crowd.start_soon(client.get, "/")
    assert (server.connections, len(server.requests)) == (8, 16)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"x", b"connection: close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n\r\nx",
    ],
)
async def test_a_connection_that_the_server_ends_is_not_kept(serve: Serve, answer: bytes) -> None:
    server = await serve([[answer]])
    async with Client(server.url) as client:
        for _ in range(2):
            found = await client.get("/")
            assert (found.body, found.done) == (b"x", True)
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer", [whole(b"x", b"connection: close"), b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx"]
)
async def test_a_connection_that_the_server_will_not_serve_again_is_closed(serve: Serve, answer: bytes) -> None:
    server = await serve([[answer, hold]])
    async with Client(server.url) as client:
        assert (await client.get("/")).body == b"x"
        await until(lambda: server.open == 0)


async def test_what_comes_unasked_on_an_idle_connection_is_nobodys_answer(serve: Serve) -> None:
    going = trio.Event()

    async def wait(_: Stream) -> None:
        await going.wait()

    unasked = whole(b"too slow", b"connection: close", status=b"408 Request Timeout")
    server = await serve([[whole(b"1"), wait, unasked, hold]], [[whole(b"2")]])
    async with Client(server.url) as client:
        assert (await client.get("/")).body == b"1"
        going.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.get("/")).body == b"2"


async def test_a_connection_that_ended_while_it_was_idle_costs_nothing(serve: Serve) -> None:
    server = await serve([[whole(b"1")]], [[whole(b"2")]])
    async with Client(server.url) as client:
        assert (await client.get("/")).body == b"1"
        await until(lambda: server.open == 0)
        assert (await client.get("/")).body == b"2"
    assert len(server.requests) == 2


@pytest.mark.parametrize("end", [0.0, reset])
async def test_a_request_on_a_stale_connection_is_sent_once_more(serve: Serve, end: Step) -> None:
    server = await serve([[whole(b"1")], [end]], [[whole(b"2")]])
    async with Client(server.url) as client:
        assert (await client.get("/a")).body == b"1"
        assert (await client.get("/b")).body == b"2"
    assert [request.split()[1] for request in server.requests] == [b"/a", b"/b", b"/b"]


async def test_a_request_is_sent_once_more_and_no_oftener(serve: Serve) -> None:
    server = await serve([[whole(b"1")], [0.0]], [[0.0]])
    async with Client(server.url) as client:
        await client.get("/")
        with pytest.raises(TargetError, match=r"^It closed the connection without an answer\.$"):
            await client.get("/")
    assert len(server.requests) == 3


async def test_a_stale_connection_is_told_by_its_silence_not_by_half_an_answer(serve: Serve) -> None:
    server = await serve([[whole(b"1")], [b"HTTP/1.1 200 OK\r\n"]])
    async with Client(server.url) as client:
        await client.get("/")
        with pytest.raises(TargetError, match=r"^It broke off in the middle of its answer, after 17 bytes\.$"):
            await client.get("/")
    assert len(server.requests) == 2


async def test_interim_answers_are_passed_over(serve: Serve) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    server = await serve([[early, early + STREAM, chunk(b"data: x\n\n") + END]])
    async with Client(server.url) as client:
        found = await client.post(CHAT, {})
    assert (found.status, payloads(found), "link" in found.headers) == (200, [b"x"], False)


async def test_trailers_are_no_headers(serve: Serve) -> None:
    server = await serve([[STREAM, chunk(b"data: x\n\n"), b"0\r\nx-late: 1\r\n\r\n"]])
    async with Client(server.url) as client:
        assert set((await client.get("/")).headers) == {"content-type", "transfer-encoding"}


async def test_a_stream_may_be_cut_anywhere(serve: Serve) -> None:
    text = b": hello\r\n\r\nevent: x\r\ndata: a\r\ndata: b\r\n\r\ndata:c\r\rid: 1\ndata\n\n" + DONE
    told = STREAM + b"".join(chunk(text[at : at + 1]) for at in range(len(text))) + END
    pieces = [step for at in range(len(told)) for step in (told[at : at + 1], 0.0)]
    server = await serve([pieces])
    async with Client(server.url) as client:
        assert payloads(await client.post(CHAT, {})) == [b"a\nb", b"c", b""]


@pytest.mark.parametrize(
    ("answer", "found", "done"),
    [
        ([STREAM, chunk(b"data: x\n\n"), END], [b"x"], True),
        ([STREAM, chunk(b"data: x"), END], [b"x"], True),
        ([UNFRAMED, b"data: x\n\n"], [b"x"], False),
        ([UNFRAMED, b"data: x\n\ndata: half"], [b"x"], False),
        ([UNFRAMED, b"data: x\n\n" + DONE], [b"x"], True),
        ([STREAM, chunk(b"data: x\n\n" + DONE)], [b"x"], True),
        ([STREAM, chunk(b"data: x\n\n" + DONE), chunk(b"data: more\n\n"), END], [b"x"], True),
        ([whole(b"data: x\n\n", b"content-type: TEXT/event-stream;charset=utf-8")], [b"x"], True),
    ],
)
async def test_a_stream_has_ended_properly_or_not(
    serve: Serve, answer: list[Step], found: list[bytes], *, done: bool
) -> None:
    server = await serve([answer])
    async with Client(server.url) as client:
        exchange = await client.post(CHAT, {})
    assert (payloads(exchange), exchange.done) == (found, done)


async def test_a_stream_that_is_done_is_not_waited_for(serve: Serve, autojump_clock: MockClock) -> None:
    server = await serve([[STREAM, chunk(b"data: x\n\n"), chunk(DONE), hold]])
    begin = trio.current_time()
    async with Client(server.url) as client:
        found = await client.post(CHAT, {})
        assert (payloads(found), found.done, trio.current_time() - begin) == ([b"x"], True, pytest.approx(1))
        await until(lambda: server.open == 0)


async def test_streams_are_read_event_by_event_and_other_answers_are_not(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    def sizes(data: bytes) -> list[int]:
        seen.append(data)
        return [1] * len(data)

    seen = list[bytes]()
    monkeypatch.setattr(connections, "event_sizes", sizes)
    server = await serve([[STREAM, 0.01, chunk(b"data: x\n\n") + END], [whole(b"x\n\ny")]])
    async with Client(server.url) as client:
        assert payloads(await client.post(CHAT, {})) == [b"x"]
        assert b"".join(seen) == chunk(b"data: x\n\n") + END
        seen.clear()
        assert (await client.get("/")).body == b"x\n\ny"
    assert seen == []


async def test_many_events_that_come_together_are_all_there(serve: Serve) -> None:
    lines = b"".join(b"data: %d\n\n" % each for each in range(20_000))
    server = await serve([[STREAM, chunk(b"data: first\n\n"), chunk(lines), END]])
    async with Client(server.url) as client:
        found = await client.post(CHAT, {})
    assert payloads(found) == [b"first", *(b"%d" % each for each in range(20_000))]


async def test_a_long_request_is_sent_whole(serve: Serve) -> None:
    server = await serve([[whole(b"{}")]])
    body = b"x" * 20_000_000
    async with Client(server.url) as client:
        await client.post("/", body)
    assert server.requests[0].endswith(b"\r\n\r\n" + body)


async def test_an_answer_that_comes_before_the_request_was_read_is_the_answer(nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(10)
        await stream.send_all(whole(b"too large", status=b"413 Content Too Large"))
        stream.socket.close()  # with a reset, as much is left unread

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(partial(trio.serve_listeners, refuse, [listener]))
    async with Client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
        assert (await client.post("/", b"x" * 20_000_000)).status == 413


async def test_giving_up_closes_the_connection_and_no_other(serve: Serve) -> None:
    reached = trio.Event()

    async def tell(_: Stream) -> None:
        reached.set()

    server = await serve([[whole(b"")]], [[STREAM, chunk(b"data: x\n\n"), tell, hold]], [[whole(b"")]])
    async with Client(server.url) as client:
        async with trio.open_nursery() as crowd:
            crowd.start_soon(client.get, "/")
            await until(lambda: server.connections == 1)
            crowd.start_soon(client.post, CHAT, {})
            await reached.wait()
            crowd.cancel_scope.cancel()
        await until(lambda: server.open == 0)
        await client.get("/")


async def test_a_connection_that_outlives_the_client_is_closed(serve: Serve, nursery: trio.Nursery) -> None:
    going, found = trio.Event(), list[Exchange]()

    async def wait(_: Stream) -> None:
        await going.wait()

    async def ask() -> None:
        found.append(await client.get("/"))

    server = await serve([[wait, whole(b"late")], [hold]])
    async with Client(server.url) as client:
        nursery.start_soon(ask)
        await until(lambda: server.connections == 1)
    going.set()
    await until(lambda: server.open == 0)
    assert [each.body for each in found] == [b"late"]


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "127.0.0.1:80", "http://", "", "http://x:99999", "http://[", "http://a@b", "http://x/?q", "http://ü/"],
)
def test_only_http_urls_are_base_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not an? |A base URL "):
        Client(url)


@pytest.mark.parametrize("url", ["http://me:geheim@x", "ftp://me:geheim@x", "http://me:geheim@x:99999/"])
def test_a_key_in_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="no user name and no password") as caught:
        Client(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("header", [("a\r\nb", "x"), ("a", "x\r\ny: z"), ("", "x"), ("a b", "x"), ("a", "€")])
def test_headers_that_cannot_be_sent_are_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"(?s)^the header '.*' has characters that it cannot have$"):
        Client("http://x", dict([header]))


@pytest.mark.parametrize("path", ["", "x", "/a b", "/a\r\nb", "/ä"])
async def test_paths_that_cannot_be_sent_are_refused(path: str) -> None:
    async with Client("http://x") as client:
        with pytest.raises(ValueError, match="is not a path as it can be sent"):
            await client.get(path)
