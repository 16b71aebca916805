"""One HTTP/1.1 answer of a server that is not to be trusted, read in bounds. Parsing is llhttp's (httptools)."""

from typing import Any, Self

import httptools
import trio
from attrs import define, field

LARGEST_HEAD = 64 * 2**10
_RECEIVE_BYTES = 65_536
_FIRST_FINAL_STATUS = 200


class FetchError(Exception):
    """Something could not, or may not, be fetched; the message is half a sentence about why, for who has named it."""


@define(eq=False)
class Answer:
    """An answer whose head has come, and whose body is read with a limit; its connection is for this answer alone.

    Attributes:
        status: HTTP status.
    """

    _stream: trio.abc.Stream
    status: int = 0
    _parser: Any = field(init=False)
    _headers: dict[str, str] = field(factory=dict, init=False)
    _pieces: list[bytes] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _head_done: bool = field(default=False, init=False)
    _done: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @classmethod
    async def begin(cls, stream: trio.abc.Stream) -> Self:
        """Read the head.

        Raises:
            FetchError: what comes is no head of an answer, or a very long one.
        """
        answer, came = cls(stream), 0
        while not answer._head_done:
            came += await answer._feed()
            if came > LARGEST_HEAD and not answer._head_done:
                raise FetchError(f"the head of its answer is longer than {LARGEST_HEAD} bytes")
        return answer

    def header(self, name: str) -> str:
        """The last header of that lower-case name, or an empty string."""
        return self._headers.get(name, "")

    async def body(self, most: int) -> bytes:
        """The whole body.

        Raises:
            FetchError: it is longer than ``most`` bytes, which is noticed as soon as it is, or breaks off.
        """
        declared = self.header("content-length")
        while not self._done and not (declared.isdecimal() and int(declared) > most) and self._size <= most:
            await self._feed()
        if self._size > most or not self._done:
            raise FetchError(f"it is larger than {most} bytes")
        return b"".join(self._pieces)

    async def _feed(self) -> int:
        """Take what comes next; how many bytes that were."""
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self._end()
            return 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._done:
                raise FetchError("its server does not answer as one of the web does") from error
        return len(data)

    def _end(self) -> None:
        """The connection ended: fine for a body that is framed by just that."""
        if not self._head_done:
            raise FetchError("its server broke off before it answered")
        if "content-length" in self._headers or "transfer-encoding" in self._headers:
            raise FetchError("its server broke off in the middle of it")
        self._done = True

    def on_message_begin(self) -> None:
        """For llhttp. Interim answers come before the final one."""
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """For llhttp."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """For llhttp."""
        self.status = self._parser.get_status_code()
        self._head_done = self.status >= _FIRST_FINAL_STATUS

    def on_body(self, body: bytes) -> None:
        """For llhttp."""
        self._size += len(body)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """For llhttp."""
        self._done = self._head_done
