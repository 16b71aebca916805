"""The one answer to a client's request, and the headers that tell what became of it."""

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from attrs import frozen

from helexa.cortex.exchange.dialects import Dialect, id_headers
from helexa.cortex.exchange.metering import Tab
from helexa.cortex.exchange.relays import Relay
from helexa.cortex.telemetry.observing import Observation
from helexa.cortex.telemetry.tracing import NO_TRACE, Trace
from helexa.web.asgi import EventStream, Headers, send_body
from helexa.web.server import Send
from helexa.wire.errors import ApiError
from helexa.wire.meter import Totals

LOCAL_ROUTE = "local"
"""What ``x-helexa-route`` says where a node of the fleet was asked."""
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


@frozen
class Plain:
    """An answer in one piece that is ready to be sent."""

    status: int
    body: bytes
    headers: Headers


class Answer(EventStream):
    """Whole or streamed, it is sent once, and an error is written in the client's dialect.

    Attributes:
        relay: what writes the stream; set before its first byte.
        attempts: how many requests were sent on its behalf so far.
        node: where the last of them went.
        route: the route it was sent by.
        warnings: what was passed over on the way there.
        ended: whether the client has its answer.
        seen: the request as it is counted and logged.
        trace: follows it.
        tab: what it may use; ``None``: nobody books it.
        totals: tokens that it will have used with the next write; ``None``: there is nothing to count yet.
        estimated: whether those are an estimate.

    Args:
        limits: the headers that tell of its key's budgets, when the answer begins.
    """

    def __init__(
        self, send: Send, dialect: Dialect, request_id: str, seen: Observation, limits: Callable[[], Headers] = list
    ) -> None:
        super().__init__(send)
        self.seen = seen
        self.trace: Trace = NO_TRACE
        self.tab: Tab | None = None
        self.totals: Totals | None = None
        self.estimated = False
        self.relay: Relay | None = None
        self.attempts = 0
        self.node: str | None = None
        self.route: str | None = None
        self.warnings: tuple[str, ...] = ()
        self.ended = False
        self._dialect = dialect
        self._request_id = request_id
        self._limits = limits
        self._whole_send = send

    def headers(self) -> Headers:
        """What every answer says of itself."""
        found = id_headers(self._dialect, self._request_id)
        found.append((b"x-helexa-attempts", b"%d" % self.attempts))
        if self.node is not None:
            found.append((b"x-helexa-node", _value(self.node)))
        if self.route is not None:
            found.append((b"x-helexa-route", _value(self.route)))
        found += [(b"warning", b'299 helexa "%b"' % _quoted(each)) for each in self.warnings]
        return found + self._limits()

    async def _write(self, data: bytes, *, more: bool) -> None:
        if not self.started:
            self._headers = self.headers()
        self.ended = not more
        self._book()
        self.seen.wrote(data, more=more)
        await super()._write(data, more=more)

    def _book(self) -> None:
        """Before a write, so that nothing is delivered that is not booked, whenever this process may be killed."""
        if self.totals is not None:
            self.seen.used(self.totals, estimated=self.estimated)
            if self.tab is not None:
                self.tab.deliver(self.totals)

    async def whole(self, plain: Plain) -> None:
        """Send an answer in one piece."""
        self.ended = True
        if self.totals is not None:
            self.seen.used(self.totals, estimated=self.estimated)
        if self.tab is not None:  # before the headers, which tell what is left
            self.tab.settle(self.totals)
        self.seen.answered(plain.status, plain.body)
        await send_body(self._whole_send, plain.status, plain.body, [*plain.headers, *self.headers()])

    async def give(self, found: Plain | ApiError) -> None:
        """Answer in one piece, whatever it is."""
        await (self.whole(found) if isinstance(found, Plain) else self.fail(found))

    async def fail(self, error: ApiError) -> None:
        """End with an error: an answer of its own if nothing was sent yet, else as the dialect ends its streams."""
        self.seen.failed(error.code)
        if self.started:
            assert self.relay is not None
            await self.end(self.relay.fail(error))
        else:
            body = self._dialect.write_error(error, self._request_id)
            await self.whole(Plain(error.status, body, error.headers()))


@lru_cache(maxsize=1024)
def _value(text: str) -> bytes:
    """A header's value; what cannot stand in one is written as in a URL."""
    return quote(text, safe=_PRINTABLE.strip()).encode()


def _quoted(text: str) -> bytes:
    """The inside of a quoted string (RFC 9110, section 5.6.4)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(each if each in _PRINTABLE else "?" for each in escaped).encode()
