"""An answer as its bytes come: HTTP framing (llhttp's, through httptools) and server-sent events, each with its time.

Pure but for the parser's state: bytes and times go in.
"""

from typing import Any, Final

import httptools
from attrs import define, field

from helexa.bench.client.exchanges import Exchange, TargetError

MOST_BYTES: Final = 64 * 2**20
"""Of one answer, its framing included."""
MOST_EVENTS: Final = 1_000_000
"""Of one answer: small ones weigh more here than on the wire."""
_MOST_HEAD_BYTES: Final = 256 * 1024
_FIRST_FINAL: Final = 200
_STREAM: Final = "text/event-stream"
_DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"


@define(eq=False)
class EventTimes:
    r"""Reads server-sent events from pieces cut anywhere (WHATWG HTML, 9.2.6); an event came when its last byte did.

    Only ``data`` is kept. Lines end with ``\n``, ``\r\n`` or ``\r``.

    Attributes:
        found: time and data of each event, but ``[DONE]``, and nothing after that.
        done: whether ``[DONE]`` came.
    """

    found: list[tuple[float, bytes]] = field(factory=list)
    done: bool = False
    _held: list[bytes] = field(factory=list)
    _data: list[bytes] = field(factory=list)
    _after_cr: bool = False
    _begun: bool = False

    def push(self, at: float, piece: bytes) -> None:
        """More of the stream, which came at that time."""
        if self._is_one_event(piece):
            self._event(at, piece[6:-2])
        else:
            self._push_lines(at, piece)

    def finish(self, at: float) -> None:
        """The stream ended well: what it held back is an event too, as some servers leave out the last blank line."""
        self._push_lines(at, b"\n\n")

    def _is_one_event(self, piece: bytes) -> bool:
        """Whether it is what servers of models send: one line of data, and the blank line. It costs the least so."""
        if piece[:6] != b"data: " or piece[-2:] != b"\n\n" or not self._begun:
            return False
        return not (self._held or self._data) and piece.count(b"\n") == 2 and b"\r" not in piece  # noqa: PLR2004

    def _push_lines(self, at: float, piece: bytes) -> None:
        piece = piece.removeprefix(b"\n") if self._after_cr else piece
        self._after_cr = piece.endswith(b"\r")
        self._held.append(piece)
        if b"\n" not in piece and b"\r" not in piece:
            return  # joined once, when the line ends: a long one may come in many pieces
        lines = b"".join(self._held).splitlines()
        self._held = [] if piece.endswith((b"\n", b"\r")) else [lines.pop()]
        for line in lines:
            self._take(at, line)

    def _take(self, at: float, line: bytes) -> None:
        if not self._begun:
            line, self._begun = line.removeprefix(_BOM), True
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            self._data.append(b"")
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            self._event(at, data)

    def _event(self, at: float, data: bytes) -> None:
        if data.strip() == _DONE:
            self.done = True
        elif not self.done:
            self.found.append((at, data))


@define(eq=False)
class Answer:
    """One answer while it comes.

    Attributes:
        sent_at: when its request was sent; these and all other times in seconds of ``time.perf_counter``.
        head_at: when its head had come.
        last_at: when something last came.
        is_stream: whether it is a stream of events; known with the head.
        complete: whether all of it has come.
        reusable: whether its connection may serve again; means something once it is complete.
        received: bytes of it, with framing.
    """

    sent_at: float
    head_at: float = 0.0
    last_at: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    is_stream: bool = False
    complete: bool = False
    reusable: bool = False
    received: int = 0
    events: EventTimes = field(factory=EventTimes)
    _body: list[bytes] = field(factory=list)
    _framed: bool = False
    _parser: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @property
    def progress(self) -> int:
        """Grows with each event of a stream, or with each piece of another answer's body."""
        return len(self.events.found) + self.events.done + len(self._body)

    @property
    def begun(self) -> bool:
        """Whether the first event of a stream, or the head of any other answer, has come."""
        return self.progress > 0 if self.is_stream else self.head_at > 0

    def feed(self, at: float, data: bytes | memoryview) -> None:
        """More of the answer, which came at that time.

        Raises:
            TargetError: ``protocol``; it is not HTTP, more than one answer, compressed, or too long.
        """
        self.last_at, self.received = at, self.received + len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise TargetError("protocol", f"Its answer is not HTTP/1.1: {error}.") from error
            raise TargetError("protocol", "It sent more than the head of its answer announced.") from error
        self._check()

    def end(self) -> None:
        """The connection ended.

        Raises:
            TargetError: ``protocol``; there should have been more.
        """
        if not self.head_at or (self._framed and not self.events.done):
            raise TargetError("protocol", f"It broke off in the middle of its answer, {self.so_far}.")
        self.complete = True

    @property
    def so_far(self) -> str:
        """How far it came; the end of a sentence."""
        if not self.is_stream:
            return f"after {self.received:,} bytes"
        return f"after {len(self.events.found):,} events"

    def exchange(self) -> Exchange:
        """What came, as it is handed on."""
        announced = self.complete and self._framed
        if announced and self.is_stream:
            self.events.finish(self.last_at)
        done = self.events.done or announced or (self.complete and not self.is_stream)
        times = (self.sent_at, self.head_at, self.last_at)
        return Exchange(self.status, self.headers, *times, tuple(self.events.found), done, b"".join(self._body))

    def _check(self) -> None:
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise TargetError("protocol", "Its answer is compressed, although that was not asked for.")
        if self.received > MOST_BYTES:
            raise TargetError("protocol", f"Its answer is longer than {MOST_BYTES // 2**20} MiB.")
        if not self.head_at and self.received > _MOST_HEAD_BYTES:
            raise TargetError("protocol", f"The head of its answer is longer than {_MOST_HEAD_BYTES // 1024} KiB.")
        if len(self.events.found) > MOST_EVENTS:
            raise TargetError("protocol", f"Its answer has more than {MOST_EVENTS:,} events.")

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """An answer begins; after an interim one, such as ``103 Early Hints``, anew."""
        if self.complete:
            raise ValueError("more than one answer came")  # llhttp stops here and reports it as its own error
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: those say nothing here."""
        if not self.head_at:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """The head is there."""
        self.status = self._parser.get_status_code()
        if self.status < _FIRST_FINAL:
            return
        self.head_at = self.last_at
        self._framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        self.is_stream = self.headers.get("content-type", "").partition(";")[0].strip().lower() == _STREAM

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.is_stream:
            self.events.push(self.last_at, body)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """An answer has ended. Whether the connection lives is asked here, as llhttp forgets it after."""
        if self.head_at:
            self.complete, self.reusable = True, self._parser.should_keep_alive()
