"""A load generator on raw sockets: cheap enough not to be what is measured."""

from time import perf_counter

import httptools
import trio
from attrs import define, field, frozen

_OK = 200


@frozen
class Sample:
    """One request: seconds until its first byte of an answer's body and until its end, and events if it is a stream.

    ``ok`` is false for an answer that is an error.
    """

    first: float
    total: float
    events: int
    ok: bool


@define(eq=False)
class _Answer:
    """What llhttp's callbacks see of one response."""

    status: int = 0
    events: int = 0
    first_at: float = 0.0
    done: bool = False
    parser: httptools.HttpResponseParser = field(init=False)
    _last: bytes = b""

    def __attrs_post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.first_at = self.first_at or perf_counter()
        self.events += (self._last + body).count(b"\n\n")
        self._last = b"\n" if body.endswith(b"\n") and not body.endswith(b"\n\n") else b""

    def on_message_complete(self) -> None:
        self.done = True


def request(body: bytes) -> bytes:
    """The bytes of a chat request."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer none\r\n"
    return head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def exchange(stream: trio.SocketStream, data: bytes) -> Sample:
    """Send one request, read its whole answer."""
    answer, begin = _Answer(), perf_counter()
    await stream.send_all(data)
    while not answer.done:
        piece = bytes(await stream.receive_some())
        if not piece:
            raise SystemExit("the server closed a connection in the middle of the run")
        answer.parser.feed_data(piece)
    return Sample(answer.first_at - begin, perf_counter() - begin, answer.events, answer.status == _OK)


async def _client(port: int, data: bytes, until: float, samples: list[Sample]) -> None:
    """One request after the other; a new connection where the server ends one after each, or after many."""
    while perf_counter() < until:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            while perf_counter() < until:
                samples.append(await exchange(stream, data))
                if stream.socket.is_readable():  # its end: there is nothing else to come
                    break


async def load(port: int, data: bytes, clients: int, seconds: float) -> list[Sample]:
    """What ``clients`` connections measured in ``seconds``; requests begun in time are finished."""
    samples: list[Sample] = []
    until = perf_counter() + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(_client, port, data, until, samples)
    return samples
