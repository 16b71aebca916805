"""What one request to a target gave: an answer with its times, or why there is none. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import orjson
from attrs import define, field, frozen

Code: TypeAlias = Literal["unreachable", "timeout", "stalled", "refused", "protocol", "lying", "usage_missing"]
"""Why a target gave no figures.

``unreachable``: no connection; ``timeout``: no answer in time; ``stalled``: an answer that began and went no further;
``refused``: an HTTP error; ``protocol``: what came is not HTTP, broke off, or is too long; ``lying``: figures that
cannot be; ``usage_missing``: it does not say how many tokens it counted.
"""
_FIRST_ERROR: Final = 400
_LONGEST_SAID: Final = 300
_SAYING: Final = ("error", "message", "detail")
_UNPRINTABLE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@define(slots=False, eq=False)  # slots and BaseException.__traceback__ do not mix
class TargetError(Exception):
    """A target that did not do what it was asked, or not so that it can be measured.

    Attributes:
        code: stable, for programs.
        message: one sentence, for people.
    """

    code: Code
    message: str

    def __str__(self) -> str:
        return self.message


@frozen
class Timeouts:
    """How long to wait for a target, in seconds.

    Attributes:
        connect: for a connection, TLS and all.
        head: from the request until the first event of a stream, or until the head of any other answer.
        idle: between two events of a stream, or two pieces of any other answer; longer is a stall. Comments that keep
            a stream alive are no events: they say that the server lives, not that the model does.
        total: for all of an exchange but its connection.
    """

    connect: float = 5.0
    head: float = 600.0
    idle: float = 60.0
    total: float = 3600.0


TIMEOUTS: Final = Timeouts()


@frozen
class Exchange:
    """One request and its whole answer. Times are ``time.perf_counter`` seconds.

    Attributes:
        status: HTTP status, an error's too.
        headers: by lower-case name; those that came twice are joined by a comma (RFC 9110, 5.3).
        sent_at: just before the request went to the kernel, on a connection that was made before.
        head_at: when the answer's head had come.
        ended_at: when the last of the answer had come.
        events: the data of each server-sent event, as it came, and when its end came; ``[DONE]`` is left out.
        done: whether it ended properly: with ``[DONE]``, or as its head said it would. A stream that ends with its
            connection, and without ``[DONE]``, may as well have broken off.
        body: what came, where that was no event stream.
    """

    status: int
    headers: Mapping[str, str]
    sent_at: float
    head_at: float
    ended_at: float
    events: tuple[tuple[float, bytes], ...] = field(default=(), repr=False)
    done: bool = True
    body: bytes = field(default=b"", repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is no error and no redirection."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, 15.3

    def json(self) -> Any:
        """The body, decoded.

        Raises:
            TargetError: ``protocol``; it is not JSON, or a stream of events came in its place.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            what = "a stream of events" if self.events else "no JSON"
            raise TargetError("protocol", f"Its answer, with status {self.status}, is {what}.") from error


def refusal(exchange: Exchange) -> TargetError:
    """An error answer as an error: ``refused``, with the status and what the server said about it, in one line."""
    said = _said(exchange)
    return TargetError("refused", f"It answered with status {exchange.status}{': ' if said else '.'}{said}")


def _said(exchange: Exchange) -> str:
    if moved := exchange.headers.get("location", ""):
        return one_line(f"it is to be asked at {moved} instead")
    body = exchange.body or next((data for _, data in exchange.events), b"")
    try:
        text = _message(orjson.loads(body))
    except orjson.JSONDecodeError:
        text = "" if body.lstrip()[:1] == b"<" else body.decode("utf-8", "replace")  # a page is for browsers
    return one_line(text)


def _message(said: Any) -> str:
    """The sentence in an error's JSON: OpenAI's ``error.message``, Ollama's ``error``, FastAPI's ``detail``."""
    # not by recursion: JSON may be nested more deeply than Python calls
    while isinstance(said, dict) and (key := next((name for name in _SAYING if name in said), None)) is not None:
        said = said[key]
    if isinstance(said, str) or said is None:
        return said or ""
    try:
        return orjson.dumps(said).decode()
    except orjson.JSONEncodeError:  # more levels can be read than written
        return ""


def one_line(text: str, most: int = _LONGEST_SAID) -> str:
    """At most so many printable characters, on one line: servers say what they like, and terminals obey."""
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= most else text[: most - 1] + "…"
