"""The dialects that clients speak: how each is read into a chat, written from one, and told of errors. Pure."""

from collections.abc import Callable
from typing import Any

import orjson
from attrs import define, evolve, field, frozen

from helexa.cortex.exchange import chats, legacy
from helexa.cortex.exchange.relays import Marks
from helexa.wire import sse
from helexa.wire.anthropic import billing
from helexa.wire.anthropic import requests as messages
from helexa.wire.anthropic.errors import envelope
from helexa.wire.anthropic.replies import MessageReply
from helexa.wire.anthropic.upstream import MessageReader
from helexa.wire.dialect import Json, Reply, Translated
from helexa.wire.errors import ApiError
from helexa.wire.responses import requests as responses
from helexa.wire.responses.replies import ResponseReply

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"


@frozen
class Dialect:
    """What a route's clients speak.

    Attributes:
        path: the route.
        to_chat: reads a request; the flag says whether billing headers are stripped.
        reply: writes the answer, given the request and the time as a Unix time.
        amend: a request that is passed on in its own dialect, the very same object where nothing has to change, and
            warnings.
        write_error: the body of an error's answer, given the request's id.
        end_with_error: how a stream that was passed on ends with an error, given how many events went before.
        read_error: raises the ``ApiError`` that a stream's first events tell of.
        is_error: whether a JSON object is an error's answer.
        marks: how its streams are told to be at their end.
        id_header: what its clients look for a request's id in, beside ``x-request-id``.
    """

    path: str
    to_chat: Callable[[Json, bool], Translated]
    reply: Callable[[Json, int], Reply]
    amend: Callable[[Json, bool], Translated]
    write_error: Callable[[ApiError, str], bytes]
    end_with_error: Callable[[ApiError, int], bytes]
    read_error: Callable[[bytes], object]
    is_error: Callable[[Json], bool]
    marks: Marks
    id_header: bytes | None = None


@define(eq=False)
class Asked:
    """A client's request.

    Attributes:
        dialect: that it is written in.
        raw: its body.
        body: the same, parsed.
        name: the model, or alias, it asks for.
        request_id: names it in headers and logs.
        strip_billing: whether billing headers are stripped.
    """

    dialect: Dialect
    raw: bytes
    body: Json
    name: str
    request_id: str
    strip_billing: bool = True
    _chat: Translated | None = None
    _amended: Translated | None = field(default=None, init=False)

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.body.get("stream") is True

    @property
    def asks_usage(self) -> bool:
        """Whether a chat's or a completion's stream is to tell what it has used."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def chat(self) -> Translated:
        """The request as a chat, translated once.

        Raises:
            ApiError: it cannot be.
        """
        if self._chat is None:
            self._chat = self.dialect.to_chat(self.body, self.strip_billing)
        return self._chat

    def showing(self, chat: Translated) -> "Asked":
        """The same request with another chat in place of what it is translated to."""
        return evolve(self, chat=chat)

    @property
    def amended(self) -> Translated:
        """The request as it is passed on in its own dialect.

        Raises:
            ApiError: it asks for what cannot be had.
        """
        if self._amended is None:
            self._amended = self.dialect.amend(self.body, self.strip_billing)
        return self._amended


def _same(body: Json, _strip: bool) -> Translated:  # noqa: FBT001 - one of a family of callables
    return Translated(body)


def _with_usage(body: Json, _strip: bool) -> Translated:  # noqa: FBT001 - one of a family of callables
    if body.get("stream") is not True:
        return Translated(body)
    return Translated(with_usage(body))


def with_usage(body: Json) -> Json:
    """A chat or completion whose stream tells what it has used."""
    options = body.get("stream_options")
    given = options if isinstance(options, dict) else {}
    return {**body, "stream_options": {**given, "include_usage": True}}


def _body(error: ApiError, _request_id: str) -> bytes:
    return error.body()


def _has_error(body: Json) -> bool:
    return isinstance(body.get("error"), dict)


def _reads(reader: Callable[[], Any]) -> Callable[[bytes], object]:
    return lambda events: reader().push(events)


_CHAT_MARKS = Marks(
    ends=(b"data: [DONE]", b"data:[DONE]"),
    enough=(b'"finish_reason":"', b'"finish_reason": "'),
    errors=(b'data: {"error"', b'data:{"error"'),
)

chat_dialect = Dialect(
    path=CHAT,
    to_chat=_with_usage,
    reply=lambda body, _: chats.ChatReply.to(body),
    amend=_same,
    write_error=_body,
    end_with_error=lambda error, _: chats.error_event(error),
    read_error=_reads(chats.ChatReader),
    is_error=_has_error,
    marks=_CHAT_MARKS,
)

completions_dialect = evolve(
    chat_dialect,
    path=COMPLETIONS,
    to_chat=lambda body, _: legacy.to_chat(body),
    reply=lambda body, _: legacy.CompletionReply.to(body),
)


def _stateless(body: Json, _strip: bool) -> Translated:  # noqa: FBT001 - one of a family of callables
    """Nothing is stored at the upstream either: nobody could ask for it, as its id is not the one the client gets."""
    warnings = responses.stateless(body)
    return Translated(body if body.get("store") is False else {**body, "store": False}, warnings)


def _response_error(error: ApiError, number: int) -> bytes:
    payload = {
        "type": "error",
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "sequence_number": number,
    }
    return b"event: error\n" + sse.event(payload)


def _read_response_error(events: bytes) -> None:
    for data in sse.EventReader().push(events):
        payload = chats.parsed(data)
        if payload.get("type") == "error":
            found = payload if isinstance(payload.get("message"), str) else payload.get("error")
            error = chats.error_of({"error": found}, 502)
            if error is not None:
                raise error


responses_dialect = evolve(
    chat_dialect,
    path=RESPONSES,
    to_chat=lambda body, _: responses.to_chat(body),
    reply=lambda body, created: ResponseReply(body, created=created),
    amend=_stateless,
    end_with_error=_response_error,
    read_error=_read_response_error,
    marks=Marks(
        ends=(b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
        enough=tuple(
            b'"type":%b"response.%b"' % (space, state)
            for space in (b"", b" ")
            for state in (b"completed", b"incomplete", b"failed")
        ),
        errors=(b"event: error", b'data: {"type":"error"'),
    ),
)


def _message_chat(body: Json, strip: bool) -> Translated:  # noqa: FBT001 - one of a family of callables
    return messages.to_chat(body, strip_billing=strip)


def _counted_chat(body: Json, strip: bool) -> Translated:  # noqa: FBT001 - one of a family of callables
    return messages.to_chat(body, strip_billing=strip, counting=True)


def _stripped(body: Json, strip: bool) -> Translated:  # noqa: FBT001 - one of a family of callables
    return Translated(billing.strip(body) if strip else body)


def _message_error(error: ApiError, request_id: str) -> bytes:
    return orjson.dumps(envelope(error, request_id))


@frozen
class CountReply:
    """The answer of ``count_tokens``, from that of a neuron's ``/tokenize``; never a stream."""

    def whole(self, completion: Json) -> Json:
        """How many tokens there are."""
        return {"input_tokens": completion["count"]}

    def push(self, _chunk: Json) -> bytes:
        """Nothing: there is no stream."""
        return b""

    def finish(self) -> bytes:
        """Nothing: there is no stream."""
        return b""

    def fail(self, error: ApiError) -> bytes:
        """How Anthropic's streams end with an error."""
        return message_error_event(error, 0)


def message_error_event(error: ApiError, _number: int) -> bytes:
    """How Anthropic's streams end with an error; nothing follows it."""
    return b"event: error\n" + sse.event(envelope(error))


messages_dialect = Dialect(
    path=MESSAGES,
    to_chat=_message_chat,
    reply=lambda body, _: MessageReply(body["model"]),
    amend=_stripped,
    write_error=_message_error,
    end_with_error=message_error_event,
    read_error=_reads(MessageReader),
    is_error=lambda body: body.get("type") == "error" and _has_error(body),
    marks=Marks(
        ends=(b"event: message_stop",),
        enough=(b'"type":"message_stop"', b'"type": "message_stop"'),
        errors=(b"event: error",),
    ),
    id_header=b"request-id",
)

count_dialect = evolve(
    messages_dialect, path=COUNT_TOKENS, to_chat=_counted_chat, reply=lambda _body, _created: CountReply()
)

DIALECTS = {
    each.path: each for each in (chat_dialect, completions_dialect, responses_dialect, messages_dialect, count_dialect)
}


def of_path(path: str) -> Dialect:
    """The dialect that errors of a path are written in; OpenAI's for all that are not Anthropic's."""
    if path == MESSAGES or path.startswith(MESSAGES + "/"):
        return messages_dialect
    return DIALECTS.get(path, chat_dialect)


class DialectError(ApiError):
    """An error of a request that never came to be served, written as its route's clients read errors."""

    _written: bytes
    _headers: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, error: ApiError, dialect: Dialect, request_id: str) -> "DialectError":
        """The same error in a dialect."""
        made = cls(error.status, error.message, error.type, error.code, error.param)
        made._written = dialect.write_error(error, request_id)
        made._headers = [*error.headers(), *id_headers(dialect, request_id)]
        return made

    def body(self) -> bytes:
        """The response body."""
        return self._written

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The error's own, and the request's id."""
        return self._headers


def id_headers(dialect: Dialect, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that name a request."""
    names = (b"x-request-id",) if dialect.id_header is None else (b"x-request-id", dialect.id_header)
    return [(name, request_id.encode()) for name in names]
