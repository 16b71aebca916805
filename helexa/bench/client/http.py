"""The client that measures: HTTP/1.1 on sockets, with the time at which every piece came.

A general client decodes, logs and copies on the way, which at thousands of pieces a second is what one measures then;
and none tells when bytes came, only when it got round to them. Here nothing is decoded while an answer comes, and the
kernel says when it did (``arrivals``).
"""

import re
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import orjson
import trio
from attrs import evolve

from helexa.bench.client.answers import Answer
from helexa.bench.client.connections import Connection, Origin, StaleError
from helexa.bench.client.exchanges import TIMEOUTS, Exchange, TargetError, Timeouts, refusal

__all__ = ["TIMEOUTS", "Client", "Exchange", "TargetError", "Timeouts", "refusal"]

_MAX_IDLE: Final = 1024
_LINGER: Final = 1.0
"""Seconds that an answer may take to end once its stream has; else its connection is not used again."""
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_PATH: Final = re.compile(r"/[!-~]*")
_SECRET: Final = re.compile(r"authorization|cookie|key|secret|token")
_SHORTEST_SECRET: Final = 4
_DEFAULTS: Final = {"user-agent": "helexa-bench", "accept": "*/*", "accept-encoding": "identity"}


class Client:
    """Keep-alive connections to one base URL; makes as many as there are requests at a time. An async context manager.

    Args:
        base_url: http or https, with or without a path, without ``/v1``.
        headers: sent with every request, e.g. ``authorization``.
        trusted: whose certificates are taken; ``None``: whom the system trusts.
        timeouts: how long to wait.

    Raises:
        ValueError: that is no http or https URL, or a header cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str] = {},
        *,
        trusted: ssl.SSLContext | None = None,
        timeouts: Timeouts = TIMEOUTS,
    ) -> None:
        self._origin = Origin.parse(base_url, trusted)
        named = _DEFAULTS | {"host": self._origin.authority} | {name.lower(): each for name, each in headers.items()}
        self._head = _written(named)
        self._secrets = _secrets(named)
        self._timeouts = timeouts
        self._idle: deque[Connection] = deque()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def post(self, path: str, body: Mapping[str, Any] | bytes) -> Exchange:
        """Send a request and read its whole answer, a stream of events or not.

        Args:
            path: from the base URL on, e.g. ``/v1/chat/completions``.
            body: JSON, or as a mapping that becomes JSON.

        Raises:
            TargetError: there is no such answer. One that is an HTTP error is returned.
            ValueError: the path cannot be sent.
        """
        data = body if isinstance(body, bytes) else orjson.dumps(dict(body))
        kind = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
        return await self._ask(b"%b%b%b" % (self._line("POST", path), kind, data))

    async def get(self, path: str) -> Exchange:
        """The same without a body.

        Raises:
            TargetError, ValueError: as ``post``.
        """
        return await self._ask(self._line("GET", path) + b"\r\n")

    def _line(self, method: str, path: str) -> bytes:
        if not _PATH.fullmatch(path):
            raise ValueError(f"'{path}' is not a path as it can be sent")
        return f"{method} {self._origin.path}{path} HTTP/1.1\r\n".encode("ascii") + self._head

    async def _ask(self, request: bytes) -> Exchange:
        """One exchange; anew on a connection of its own where one that had been kept turns out to have ended."""
        kept = self._kept()
        if kept is not None:
            with suppress(StaleError):
                return await self._exchange(kept, request)
        fresh = await Connection.open(self._origin, self._timeouts.connect)
        try:
            return await self._exchange(fresh, request)
        except StaleError as error:
            raise TargetError("protocol", "It closed the connection without an answer.") from error

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_spoilt():
                return connection
            connection.close()
        return None

    async def _exchange(self, connection: Connection, request: bytes) -> Exchange:
        answer = Answer(connection.clock.begin())
        try:
            await _converse(connection, request, answer, self._timeouts)
        except BaseException:
            connection.close()
            raise
        self._release(connection, answer)
        return self._silent(answer.exchange())

    def _release(self, connection: Connection, answer: Answer) -> None:
        if answer.reusable and not self._closed and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _silent(self, exchange: Exchange) -> Exchange:
        """Without our keys, which some servers repeat in their errors: those are kept, and shown in reports.

        A stream may end in an error though its status is none.
        """
        events = tuple((at, self._hidden(data)) for at, data in exchange.events)
        if exchange.ok:
            return evolve(exchange, events=events)
        headers = {name: self._hidden(value.encode()).decode() for name, value in exchange.headers.items()}
        return evolve(exchange, headers=headers, body=self._hidden(exchange.body), events=events)

    def _hidden(self, said: bytes) -> bytes:
        for secret in self._secrets:
            said = said.replace(secret, b"[key]")
        return said


async def _converse(connection: Connection, request: bytes, answer: Answer, timeouts: Timeouts) -> None:
    """Send the request and read the answer to its end.

    Raises:
        StaleError: the connection ended before the first byte of an answer.
        TargetError: there is no proper answer, or none in time.
    """
    begin = trio.current_time()
    with trio.move_on_at(begin + min(timeouts.head, timeouts.total)) as scope:
        await connection.send(request)
        while not answer.complete:
            seen = answer.progress, answer.begun
            for at, data in await connection.receive(by_event=answer.is_stream):
                _take(answer, at, data)
            if (answer.progress, answer.begun) != seen:
                scope.deadline = _deadline(answer, begin, timeouts)
    if scope.cancelled_caught and not answer.events.done:
        raise _late(answer, timeouts, total=trio.current_time() >= begin + timeouts.total)


def _take(answer: Answer, at: float, data: bytes) -> None:
    if data:
        answer.feed(at, data)
    elif answer.received:
        answer.end()
    else:
        raise StaleError


def _deadline(answer: Answer, begin: float, timeouts: Timeouts) -> float:
    """Until when the next of the answer has to come, now that something did."""
    patience = _LINGER if answer.events.done else timeouts.idle
    return min(trio.current_time() + patience, begin + timeouts.total)


def _late(answer: Answer, timeouts: Timeouts, *, total: bool) -> TargetError:
    if total:
        return TargetError("timeout", f"Its answer had not ended after {timeouts.total:g} s, {answer.so_far}.")
    if answer.begun:
        return TargetError("stalled", f"Its answer went no further for {timeouts.idle:g} s, {answer.so_far}.")
    return TargetError("timeout", f"Its answer had not begun after {timeouts.head:g} s.")


def _written(headers: Mapping[str, str]) -> bytes:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the header '{name}' has characters that it cannot have")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def _secrets(headers: Mapping[str, str]) -> tuple[bytes, ...]:
    """The secret values among the headers, without the word that says what kind they are."""
    values = (value.rpartition(" ")[2].encode("latin-1") for name, value in headers.items() if _SECRET.search(name))
    return tuple(value for value in values if len(value) >= _SHORTEST_SECRET)
