"""The kinds of servers that requests are sent to, and the way from each client's dialect to each of them. Pure."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from attrs import evolve, frozen

from config import Provider
from helexa.cortex.exchange import chats, dialects
from helexa.cortex.exchange.dialects import Asked, Dialect
from helexa.cortex.exchange.relays import Relay, Rewritten, Translating, Verbatim, unreadable, without_usage
from helexa.wire import errors
from helexa.wire.anthropic import upstream as anthropic
from helexa.wire.dialect import ChunkReader, Json, Reply, read_object
from helexa.wire.errors import ApiError
from helexa.wire.ollama import upstream as ollama
from helexa.wire.responses import passthrough
from helexa.wire.responses.ids import new_id

_BAD_GATEWAY = 502
_ANSWER = "its answer is"
_BAD_REQUEST, _UNPROCESSABLE = 400, 422
_MALFORMED = (TypeError, KeyError, AttributeError, IndexError)
_OURS = ("chat_template_kwargs", "top_k", "min_p", "repetition_penalty")
"""Parameters of chats that a translation may write and that OpenAI itself refuses as unknown."""


@frozen
class Kind:
    """A protocol that servers speak.

    Attributes:
        name: of the kind.
        verbatim: paths by dialect's path: what it answers in the client's own dialect.
        translated: paths by dialect's path: what it answers to a translated request; ``None`` stands for any other.
        from_chat: a chat as its request.
        to_completion: its whole answer as a completion, given the model's name.
        reader: reads its streams, given the model's name.
        error_from: its error envelope as our error.
        tells_usage: whether its streams of chats and completions tell what they have used if they are asked to, and
            only then.
        fetches: whether it fetches pictures that a chat names by their address; else they have to be brought.
    """

    name: str
    verbatim: Mapping[str, str]
    translated: Mapping[str | None, str]
    from_chat: Callable[[Json], Json]
    to_completion: Callable[[Json, str], Json]
    reader: Callable[[str], ChunkReader]
    error_from: Callable[[int, bytes], ApiError | None]
    tells_usage: bool = False
    fetches: bool = True


def _standard(chat: Json) -> Json:
    """A translated chat as any server of OpenAI's kind takes it."""
    found = {key: value for key, value in chat.items() if key not in _OURS}
    messages = found.get("messages")
    return {**found, "messages": [_plain(each) for each in messages]} if isinstance(messages, list) else found


def _plain(message: Any) -> Any:
    if not isinstance(message, dict) or "reasoning_content" not in message:
        return message
    return {key: value for key, value in message.items() if key != "reasoning_content"}


def _completion(answer: Json, _model: str) -> Json:
    if (error := chats.error_of(answer, _BAD_GATEWAY)) is not None:
        raise error
    if not isinstance(answer.get("choices"), list):
        raise ValueError("its answer is no chat completion")  # noqa: TRY004 - what readers raise
    return answer


def _count(answer: Json, _model: str) -> Json:
    if type(answer.get("count")) is not int:
        raise ValueError("its answer is no count of tokens")
    return answer


NEURON = Kind(
    name="neuron",
    verbatim={dialects.CHAT: dialects.CHAT, dialects.COMPLETIONS: dialects.COMPLETIONS},
    translated={None: dialects.CHAT},
    from_chat=lambda chat: chat,
    to_completion=_completion,
    reader=lambda _: chats.ChatReader(),
    error_from=chats.error_from,
)

TOKENIZER = evolve(NEURON, verbatim={}, translated={dialects.COUNT_TOKENS: "/tokenize"}, to_completion=_count)

OPENAI = Kind(
    name="openai",
    verbatim={dialects.CHAT: "/chat/completions", dialects.COMPLETIONS: "/completions"},
    translated={dialects.COUNT_TOKENS: "", None: "/chat/completions"},
    from_chat=_standard,
    to_completion=_completion,
    reader=lambda _: chats.ChatReader(),
    error_from=chats.error_from,
    tells_usage=True,
)

OPENAI_RESPONSES = evolve(OPENAI, verbatim={**OPENAI.verbatim, dialects.RESPONSES: "/responses"})

ANTHROPIC = Kind(
    name="anthropic",
    verbatim={dialects.MESSAGES: "/messages", dialects.COUNT_TOKENS: "/messages/count_tokens"},
    translated={None: "/messages"},
    from_chat=anthropic.to_messages,
    to_completion=lambda answer, _: anthropic.to_completion(answer),
    reader=lambda _: anthropic.MessageReader(),
    error_from=anthropic.error_from,
)

OLLAMA = Kind(
    name="ollama",
    verbatim={},
    translated={dialects.COUNT_TOKENS: "", None: "/api/chat"},
    from_chat=ollama.to_ollama,
    to_completion=ollama.to_completion,
    reader=ollama.OllamaReader,
    error_from=ollama.error_from,
    fetches=False,
)


def kind_of(provider: Provider) -> Kind:
    """What a provider speaks."""
    if provider.kind == "openai":
        return OPENAI_RESPONSES if provider.responses else OPENAI
    return ANTHROPIC if provider.kind == "anthropic" else OLLAMA


def untold(kind: Kind) -> Kind:
    """The same for a server that does not know how to be asked what its streams have used."""
    return evolve(kind, tells_usage=False, from_chat=lambda chat: _without_options(kind.from_chat(chat)))


def _without_options(chat: Json) -> Json:
    return {key: value for key, value in chat.items() if key != "stream_options"}


class Way(Protocol):
    """From a client's request to a server's and back."""

    @property
    def kind(self) -> Kind:
        """What the server speaks."""

    @property
    def path(self) -> str:
        """Where the request goes."""

    def warnings(self, asked: Asked) -> tuple[str, ...]:
        """What was passed over on the way."""

    def body(self, asked: Asked, model: str, *, as_checked: bool) -> bytes:
        """The request's body.

        Args:
            asked: the client's request.
            model: the name to ask for.
            as_checked: write it anew even where its bytes would do: then what was checked is what is read there, even
                where a body names its model twice.

        Raises:
            ApiError: there is none for this request.
        """

    def relay(self, asked: Asked) -> Relay:
        """Takes the stream back.

        Raises:
            ValueError: as ``whole``.
        """

    def whole(self, asked: Asked, data: bytes) -> bytes:
        """The answer for the client.

        Raises:
            ApiError: the data tells of an error, whatever its status said.
            ValueError: the data is no answer; a sentence that begins with "it".
        """

    def refusal(self, status: int, data: bytes) -> bytes | ApiError | None:
        """An error for the client, as it is or as ours; ``None``: the data tells of none."""

    def refuses_usage(self, asked: Asked, status: int, data: bytes) -> bool:
        """Whether an error is about nothing but that a stream's usage was asked for, and not by the client."""


def way(dialect: Dialect, kind: Kind) -> Way | None:
    """How to get from one to the other; ``None``: there is no way."""
    if (path := kind.verbatim.get(dialect.path)) is not None:
        return Same(dialect, kind, path)
    path = kind.translated.get(dialect.path, kind.translated.get(None, ""))
    return Changed(kind, path) if path else None


@frozen
class Same:
    """Both speak the same: bytes are passed on."""

    dialect: Dialect
    kind: Kind
    path: str

    def _adds_usage(self, asked: Asked) -> bool:
        """Whether the stream's usage is asked for although the client has not."""
        named = self.dialect.path in (dialects.CHAT, dialects.COMPLETIONS)
        return self.kind.tells_usage and named and asked.stream and not asked.asks_usage

    @property
    def _changes_ids(self) -> bool:
        """Whether answers have ids that their clients come back with."""
        return self.dialect.path == dialects.RESPONSES

    def warnings(self, asked: Asked) -> tuple[str, ...]:
        """See ``Way``."""
        return asked.amended.warnings

    def body(self, asked: Asked, model: str, *, as_checked: bool) -> bytes:
        """See ``Way``."""
        chat = asked.amended.chat
        if self._adds_usage(asked):
            return written({**dialects.with_usage(chat), "model": model})
        if chat is asked.body and model == asked.name and not as_checked:
            return asked.raw
        return written({**chat, "model": model})

    def relay(self, asked: Asked) -> Relay:
        """See ``Way``."""
        plain = Verbatim(self.dialect.marks, self.dialect.read_error, self.dialect.end_with_error)
        if self._adds_usage(asked):
            return Rewritten(plain, without_usage)
        return Rewritten(plain, passthrough.IdRewriter(new_id("resp")).push) if self._changes_ids else plain

    def whole(self, asked: Asked, data: bytes) -> bytes:
        """See ``Way``."""
        del asked
        answer = read_object(data, _ANSWER)
        if self.dialect.is_error(answer) and (error := self.kind.error_from(_BAD_GATEWAY, data)) is not None:
            raise error
        if not self._changes_ids:
            return data
        try:
            return orjson.dumps(passthrough.whole(answer, new_id("resp")))
        except orjson.JSONEncodeError:
            raise ValueError("its answer is nested too deep") from None

    def refusal(self, status: int, data: bytes) -> bytes | ApiError | None:
        """See ``Way``."""
        try:
            native = self.dialect.is_error(read_object(data, _ANSWER))
        except ValueError:
            return None
        return data if native else self.kind.error_from(status, data)

    def refuses_usage(self, asked: Asked, status: int, data: bytes) -> bool:
        """See ``Way``."""
        return self._adds_usage(asked) and _names_options(status, data)


@frozen
class Changed:
    """They do not: a request is translated there, and its answer back."""

    kind: Kind
    path: str

    def warnings(self, asked: Asked) -> tuple[str, ...]:
        """See ``Way``."""
        return asked.chat.warnings

    def body(self, asked: Asked, model: str, *, as_checked: bool) -> bytes:
        """See ``Way``."""
        del as_checked  # it always is
        return written(self.kind.from_chat({**asked.chat.chat, "model": model}))

    def relay(self, asked: Asked) -> Relay:
        """See ``Way``."""
        if not asked.stream:
            raise ValueError("it streams its answer, although it was not asked to")
        return Translating(self.kind.reader(asked.name), _reply(asked))

    def whole(self, asked: Asked, data: bytes) -> bytes:
        """See ``Way``."""
        if asked.stream:
            raise ValueError("it does not stream its answer, although it was asked to")
        answer = read_object(data, _ANSWER)
        try:
            return orjson.dumps(_reply(asked).whole(self.kind.to_completion(answer, asked.name)))
        except _MALFORMED as error:
            raise unreadable(error) from error

    def refusal(self, status: int, data: bytes) -> bytes | ApiError | None:
        """See ``Way``."""
        return self.kind.error_from(status, data)

    def refuses_usage(self, asked: Asked, status: int, data: bytes) -> bool:
        """See ``Way``."""
        return self.kind.tells_usage and asked.stream and _names_options(status, data)


def _names_options(status: int, data: bytes) -> bool:
    return status in (_BAD_REQUEST, _UNPROCESSABLE) and (b"stream_options" in data or b"include_usage" in data)


def _reply(asked: Asked) -> Reply:
    return asked.dialect.reply(asked.body, int(time.time()))


def written(payload: Json) -> bytes:
    """A request as JSON.

    Raises:
        ApiError: it is nested deeper than can be written.
    """
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
        raise errors.invalid_json(str(error)) from None
