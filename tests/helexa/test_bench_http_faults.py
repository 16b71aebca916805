"""The measuring client against servers that are not there, stall, lie, break off, or speak something else."""

import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from scripted_servers import DONE, END, STREAM, UNFRAMED, Server, Step, chunk, hold, reset, until, whole
from trio.testing import MockClock

from helexa.bench.client import answers
from helexa.bench.client.http import TIMEOUTS, Client, Exchange, TargetError, Timeouts

Serve = Callable[[Sequence[Step]], Awaitable[Server]]
EVENT = chunk(b"data: x\n\n")
COMMENT = chunk(b": keep-alive\n\n")


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    """Start a server that answers so; at the end no connection is left."""

    async def start(answer: Sequence[Step]) -> Server:
        return await Server([[answer]]).start(nursery)

    return start


async def failure(server: Server, timeouts: Timeouts = TIMEOUTS) -> tuple[TargetError, float]:
    """Why a request fails, and after how many seconds; its connection is closed then."""
    async with Client(server.url, timeouts=timeouts) as client:
        begin = trio.current_time()
        with pytest.raises(TargetError) as caught:
            await client.post("/", {})
        seconds = trio.current_time() - begin
        await until(lambda: server.open == 0, 100)  # it may have to wait until it sees that
    return caught.value, seconds


async def success(server: Server) -> Exchange:
    async with Client(server.url) as client:
        return await client.post("/", {})


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_a_refused_connection_is_unreachable() -> None:
    url = f"http://127.0.0.1:{refused_port()}"
    async with Client(url) as client:
        with pytest.raises(TargetError) as caught:
            await client.get("/")
    assert (caught.value.code, str(caught.value)) == ("unreachable", f"No connection to {url}: Connection refused.")


@pytest.mark.parametrize("name", ["nothing.invalid", "a..b", "a" * 64, "x" * 300, "%00", "."])
async def test_a_name_nobody_knows_is_unreachable(name: str) -> None:
    async with Client(f"http://{name}") as client:
        with pytest.raises(TargetError, match=rf"^No connection to http://{name}: .+\.$"):
            await client.get("/")


async def test_a_connection_that_takes_too_long_is_unreachable(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await trio.sleep(10)

    monkeypatch.setattr(trio, "open_tcp_stream", hang)
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(TargetError, match=r"^No connection to http://127\.0\.0\.1:1 within 5 s\.$"):
            await client.get("/")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([hold], "Its answer had not begun after 600 s."),
        ([b"HTTP/1.1 200 OK\r\n", hold], "Its answer had not begun after 600 s."),
        ([STREAM, hold], "Its answer had not begun after 600 s."),
        ([STREAM, *[COMMENT, 50.0] * 20, EVENT, END], "Its answer had not begun after 600 s."),
        ([STREAM, chunk(b"data: half of an eve"), hold], "Its answer had not begun after 600 s."),
    ],
)
async def test_an_answer_that_does_not_begin_is_timed_out(
    serve: Serve, autojump_clock: MockClock, answer: list[Step], message: str
) -> None:
    error, seconds = await failure(await serve(answer))
    assert (error.code, str(error)) == ("timeout", message)
    assert seconds == pytest.approx(600)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([STREAM, 590.0, EVENT, EVENT, hold], "Its answer went no further for 60 s, after 2 events."),
        ([STREAM, 590.0, EVENT, *[COMMENT, 10.0] * 20], "Its answer went no further for 60 s, after 1 events."),
        ([590.0, whole(b"12345678")[:-1], hold], "Its answer went no further for 60 s, after 45 bytes."),
    ],
)
async def test_an_answer_that_goes_no_further_is_a_stall(
    serve: Serve, autojump_clock: MockClock, answer: list[Step], message: str
) -> None:
    error, seconds = await failure(await serve(answer))
    assert (error.code, str(error)) == ("stalled", message)
    assert seconds == pytest.approx(650)


async def test_a_slow_stream_is_no_stall(serve: Serve, autojump_clock: MockClock) -> None:
    found = await success(await serve([599.0, STREAM, *[EVENT, 59.0] * 40, chunk(DONE), END]))
    assert len(found.events) == 40


async def test_a_stream_without_end_is_timed_out(serve: Serve, autojump_clock: MockClock) -> None:
    error, seconds = await failure(await serve([STREAM, *[EVENT, 30.0] * 1000]))
    assert (error.code, str(error)) == ("timeout", "Its answer had not ended after 3600 s, after 120 events.")
    assert seconds == pytest.approx(3600)


async def test_less_time_altogether_than_for_its_beginning_is_what_counts(
    serve: Serve, autojump_clock: MockClock
) -> None:
    error, seconds = await failure(await serve([hold]), Timeouts(total=7.0))
    assert str(error) == "Its answer had not ended after 7 s, after 0 bytes."
    assert seconds == pytest.approx(7)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "It closed the connection without an answer."),
        ([reset], "It closed the connection without an answer."),
        ([b"HTTP/1.1 200 OK\r\n"], "It broke off in the middle of its answer, after 17 bytes."),
        ([whole(b"12345678")[:-1]], "It broke off in the middle of its answer, after 45 bytes."),
        ([STREAM, EVENT, EVENT], "It broke off in the middle of its answer, after 2 events."),
        ([STREAM, EVENT, b"0\r\n"], "It broke off in the middle of its answer, after 1 events."),
        ([whole(b"12") + b"3"], "It sent more than the head of its answer announced."),
        ([whole(b"12") + whole(b"34")], "It sent more than the head of its answer announced."),
        ([STREAM + EVENT + END + EVENT], "It sent more than the head of its answer announced."),
        ([whole(b"x", b"content-encoding: gzip")], "Its answer is compressed, although that was not asked for."),
    ],
)
async def test_what_breaks_off_or_was_not_asked_for_is_an_error(serve: Serve, answer: list[Step], message: str) -> None:
    error, _ = await failure(await serve(answer))
    assert (error.code, str(error)) == ("protocol", message)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"<html>hello</html>",
        b"HTTP/1.1 xyz\r\n\r\n",
        STREAM + b"zz\r\ndata",
        STREAM + EVENT + b"-1\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_an_error(serve: Serve, answer: bytes) -> None:
    error, _ = await failure(await serve([answer, hold]))
    assert error.code == "protocol"
    assert str(error).startswith("Its answer is not HTTP/1.1: ")


async def test_a_reset_in_the_middle_is_an_error(serve: Serve) -> None:
    error, _ = await failure(await serve([STREAM, EVENT, 0.0, reset]))
    assert error.code == "protocol"
    assert str(error).startswith("It broke off in the middle of its answer, after ")


async def test_a_reset_after_the_end_of_a_stream_is_none(serve: Serve) -> None:
    found = await success(await serve([UNFRAMED, b"data: x\n\n" + DONE, 0.0]))
    assert (len(found.events), found.done) == (1, True)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", UNFRAMED, UNFRAMED + b"data: "])
async def test_an_answer_that_is_too_long_is_an_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 3 * 2**20)
    error, _ = await failure(await serve([head, *[b"x" * 2**20] * 20]))
    assert (error.code, str(error)) == ("protocol", "Its answer is longer than 3 MiB.")


async def test_a_head_without_end_is_an_error(serve: Serve) -> None:
    error, _ = await failure(await serve([b"HTTP/1.1 200 OK\r\n", *[b"x: %b\r\n" % (b"x" * 2**14)] * 1000]))
    assert (error.code, str(error)) == ("protocol", "The head of its answer is longer than 256 KiB.")


async def test_interim_answers_without_end_are_an_error(serve: Serve) -> None:
    error, _ = await failure(await serve([b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, hold]))
    assert (error.code, str(error)) == ("protocol", "The head of its answer is longer than 256 KiB.")


async def test_events_without_end_are_an_error(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_EVENTS", 1000)
    error, _ = await failure(await serve([STREAM, *[chunk(b"data\n\n" * 1000)] * 20, hold]))
    assert (error.code, str(error)) == ("protocol", "Its answer has more than 1,000 events.")


async def test_a_failure_leaves_the_client_usable(nursery: trio.Nursery) -> None:
    server = await Server([[[b"no"]], [[whole(b"yes")]]]).start(nursery)
    async with Client(server.url) as client:
        with pytest.raises(TargetError):
            await client.get("/")
        assert (await client.get("/")).body == b"yes"
