"""What translation between dialects consists of.

A chat completion is the pivot: every client's dialect is read into one and written from one, every upstream's likewise,
so that each dialect needs two translations and not one per pair.

A *chat* is the body of a chat completion request, a *completion* its answer, a *chunk* one event of its stream, all as
plain containers in OpenAI's shape, with ``reasoning_content`` beside ``content`` for what a model thought.
"""

from typing import Any, Protocol

import orjson
from attrs import frozen

from helexa.wire.errors import ApiError

Json = dict[str, Any]


@frozen
class Translated:
    """A client's request as a chat.

    Attributes:
        chat: the body of a chat completion request; a stream always asks for usage.
        warnings: what was passed over, a sentence each; sent to the client as ``Warning: 299`` headers.
    """

    chat: Json
    warnings: tuple[str, ...] = ()


def read_object(data: bytes | str, what: str) -> Json:
    """The JSON object that an upstream sent.

    Args:
        data: what came.
        what: the beginning of the sentence that says it is none, up to its verb.

    Raises:
        ValueError: it is none.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ValueError(f"{what} not JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} not a JSON object")  # noqa: TRY004 - what readers raise
    return found


class Reply(Protocol):
    """One answer on its way to a client, given as a completion and written in the client's dialect. Used once.

    Either ``whole`` is called, or ``push`` for each chunk and then ``finish`` or ``fail``, exactly one of the two.
    """

    def whole(self, completion: Json) -> Json:
        """The body of an answer in one piece."""

    def push(self, chunk: Json) -> bytes:
        """The events that say what this chunk adds; may be empty."""

    def finish(self) -> bytes:
        """The events that end the stream."""

    def fail(self, error: ApiError) -> bytes:
        """The events that end the stream with an error after it has begun."""


class ChunkReader(Protocol):
    """Reads an upstream's stream as chunks, however it is cut. Used once."""

    def push(self, data: bytes) -> list[Json]:
        """The chunks that these bytes complete.

        Raises:
            ApiError: the upstream reported an error.
            ValueError: the upstream does not speak its dialect; one sentence that begins with "it".
        """

    def finish(self) -> list[Json]:
        """What the end of the connection completes.

        Raises:
            ValueError: the stream had not come to its end.
        """
