"""HTTP/1.1 as hypercorn speaks it, with the heads of answers written here."""

import time
from collections.abc import Sequence
from functools import lru_cache
from re import compile as pattern
from typing import Final
from wsgiref.handlers import format_date_time

import h11
from hypercorn.events import RawData
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
"""What says where an answer ends, and what becomes of the connection: h11's business."""
_FINAL: Final = 200
_NAME: Final = pattern(rb"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+")
_IN_VALUES: Final = bytes(set(range(0x100)) - set(b"\0\n\v\f\r"))
"""As h11 has it, which lets control characters pass that mean nothing to HTTP."""


class Http11(H11Protocol):
    """HTTP/1.1, and nothing that a client may ask for in its place.

    Hypercorn changes to HTTP/2 on a preface or an ``Upgrade`` header, without a setting against it. There an answer
    waits for a flow-control window that the client may never open, even after its connection has gone; as answers are
    not cancelled half-way, one such client would keep what it was granted, and the server from stopping.

    h11 looks at each header of an answer three times, in Python, which costs more than a budget does. It is given those
    that frame the answer; the others are checked together and put in between. And the head of an answer in one piece
    is written together with its body: a system call takes longer than all of that.
    """

    _held = b""

    async def _check_protocol(self, event: object) -> None:
        """Stay."""

    async def stream_send(self, event: Event) -> None:
        """Pass an event on to the client."""
        if isinstance(event, Response) and event.status_code >= _FINAL:
            await self._send_head(event)
        else:
            await super().stream_send(event)

    async def _send_head(self, event: Response) -> None:
        framing = [each for each in event.headers if each[0].lower() in _FRAMING]
        if self.keep_alive_requests >= self.config.keep_alive_max_requests:
            framing.append((b"connection", b"close"))
        others = written([each for each in event.headers if each[0].lower() not in _FRAMING])
        line, end, rest = self._framed(h11.Response(headers=framing, status_code=event.status_code)).partition(b"\r\n")
        head = b"".join((line, end, _date(int(time.time())), others, rest)) if end else b""
        if any(name.lower() == b"content-length" for name, _ in framing):
            self._held = head
        else:
            await self.send(RawData(data=head))

    async def _send_h11_event(self, event: h11.Event) -> None:
        data, self._held = self._held + self._framed(event), b""
        if data:
            await self.send(RawData(data=data))

    def _framed(self, event: h11.Event) -> bytes:
        try:
            return self.connection.send(event) or b""  # type: ignore[arg-type]
        except h11.LocalProtocolError:  # there is nobody to answer any more, after what the client did
            if self.connection.their_state != h11.ERROR:
                raise
            return b""


def written(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    r"""Headers as they are sent, each with its ``\r\n``.

    Raises:
        ValueError: one would be read as something else.
    """
    lines = b"".join([b"%b: %b\r\n" % each for each in headers])
    # All that is left without what may stand in values are the ends of lines, unless one was smuggled in
    if lines.translate(None, _IN_VALUES) != b"\r\n" * len(headers) or not all(_is_name(name) for name, _ in headers):
        raise ValueError("a header has characters that it cannot have")
    return lines


@lru_cache(maxsize=256)
def _is_name(name: bytes) -> bool:
    return _NAME.fullmatch(name) is not None


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return b"date: %b\r\n" % format_date_time(second).encode("ascii")
