"""OpenAI's chat stream, as an upstream sends it and as a client reads it: the pivot itself, so there is little to do.

Source: OpenAI API reference, "The chat completion chunk object". Pure.
"""

from typing import Any

import orjson
from attrs import define, field

from helexa.wire import errors, sse
from helexa.wire.dialect import Json, read_object
from helexa.wire.errors import ApiError

_LEAST_ERROR, _MOST_ERROR = 400, 599
_INTERNAL = 500
_MOST_DETAIL = 2000


def error_from(status: int, body: bytes) -> ApiError | None:
    """An OpenAI error envelope as our error; ``None`` if the body is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    return error_of(found, status) or _without_envelope(found, status)


def _without_envelope(found: Json, status: int) -> ApiError | None:
    """Frameworks' own errors, as for what they found wrong with a request before their application saw it."""
    detail = found.get("message") or found.get("detail")
    if not detail:
        return None
    text = detail if isinstance(detail, str) else orjson.dumps(detail).decode()
    return _read_error({**found, "message": text[:_MOST_DETAIL]}, status)


def error_of(payload: Json, status: int) -> ApiError | None:
    """The error in an envelope or in a stream's event; servers vary in what it holds beside a message.

    Args:
        payload: the JSON object.
        status: of the answer, where the error has none of its own.
    """
    found = payload.get("error")
    if isinstance(found, str):
        found = {"message": found}
    if not isinstance(found, dict):
        return None
    return _read_error(found, status)


def _read_error(found: Json, status: int) -> ApiError:
    message, kind, param = (_text(found.get(key)) for key in ("message", "type", "param"))
    code = found.get("code")
    status = code if type(code) is int and _LEAST_ERROR <= code <= _MOST_ERROR else status
    kind = kind or ("api_error" if status >= _INTERNAL else "invalid_request_error")
    named = _text(code) or ("upstream_error" if status >= _INTERNAL else kind)
    return ApiError(status, message or "The upstream gave no reason.", kind, named, param)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


@define(eq=False)
class ChatReader:
    """Implements ``dialect.ChunkReader`` for OpenAI's chat streams."""

    _ended: bool = False
    _events: sse.EventReader = field(factory=sse.EventReader)
    _finished: bool = False
    _failure: ApiError | ValueError | None = None

    @property
    def complete(self) -> bool:
        """Whether ``finish`` tells all there is, be it an error: the end mark was seen, or what is no chunk."""
        return self._ended or self._failure is not None

    def push(self, data: bytes) -> list[Json]:
        """The chunks that these bytes complete; what came whole before a failure is returned first."""
        chunks: list[Json] = []
        try:
            if self._failure is not None:
                raise self._failure
            for each in () if self._ended else self._events.push(data):
                chunks += self._chunk(each)
        except (ApiError, ValueError) as error:
            self._failure = error
            if not chunks:
                raise
        return chunks

    def finish(self) -> list[Json]:
        """What the end of the connection completes; a stream without its end mark is whole if its choices were."""
        found = self.push(b"\n\n")  # the last event may lack its blank line
        if self._failure is not None:
            raise self._failure
        if not self._ended and not self._finished:
            raise ValueError("it ended its stream before the answer's end")
        return found

    def _chunk(self, data: str) -> list[Json]:
        if data.strip() == "[DONE]":
            self._ended = True
        if self._ended:
            return []
        payload = parsed(data)
        if (error := error_of(payload, errors.upstream_error("").status)) is not None:
            raise error
        choices = payload.get("choices")
        if not isinstance(choices, list) or not all(isinstance(each, dict) for each in choices):
            raise ValueError("it sent an event that is no chunk of a chat completion")
        self._finished = self._finished or any(each.get("finish_reason") for each in choices)
        return [payload]


def parsed(data: str) -> Json:
    """The JSON object of an event.

    Raises:
        ValueError: it is none.
    """
    return read_object(data, "it sent an event that is")


@define(eq=False)
class ChatReply:
    """Implements ``dialect.Reply`` for clients of chat completions.

    Attributes:
        include_usage: whether the client asked for the chunk with the usage, which a translated request always does.
    """

    include_usage: bool = False

    @classmethod
    def to(cls, body: Json) -> "ChatReply":
        """The reply to a request."""
        options = body.get("stream_options")
        return cls(isinstance(options, dict) and options.get("include_usage") is True)

    def whole(self, completion: Json) -> Json:
        """The completion itself."""
        return completion

    def push(self, chunk: Json) -> bytes:
        """The chunk as an event, unless it holds nothing but a usage nobody asked for."""
        if not self.include_usage:
            if not chunk.get("choices"):
                return b""
            chunk = {key: value for key, value in chunk.items() if key != "usage"}
        return sse.event(chunk)

    def finish(self) -> bytes:
        """The end mark."""
        return sse.DONE

    def fail(self, error: ApiError) -> bytes:
        """An error event and the end mark."""
        return error_event(error)


def error_event(error: ApiError) -> bytes:
    """How OpenAI's chat streams end with an error."""
    return sse.event(error.envelope()) + sse.DONE
