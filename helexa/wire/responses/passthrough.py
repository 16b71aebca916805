"""Another server's responses, passed on under ids of ours.

A client that could name an upstream's response would come back with it, and might come to another upstream.
"""

import re

import orjson

from helexa.wire.dialect import Json
from helexa.wire.sse import EventCutter, dumps

_EVENT = re.compile(rb".*?(?:\n\r?\n|\Z)", re.DOTALL)


def whole(answer: Json, id_: str) -> Json:
    """A response in one piece, with this id; another object, such as an error, is left as it is."""
    return {**answer, "id": id_} if answer.get("object") == "response" else answer


class IdRewriter:
    """Passes a stream of events on, cut so that every piece ends where an event ends. Used once.

    Events that show the response are written anew with its id replaced; all others are passed on as they come.
    """

    def __init__(self, id_: str) -> None:
        self._id = id_
        self._cutter = EventCutter()

    def push(self, data: bytes) -> bytes:
        """Whole events seen so far and not yet returned; may be empty."""
        return self._rewritten(self._cutter.push(data))

    def finish(self) -> bytes:
        """The unfinished tail of a stream that ended well."""
        return self._rewritten(self._cutter.finish())

    def _rewritten(self, data: bytes) -> bytes:
        # Most events are deltas of text, in which this key cannot stand: a quote in a string is escaped.
        return _EVENT.sub(lambda found: self._event(found[0]), data) if b'"response"' in data else data

    def _event(self, event: bytes) -> bytes:
        if b'"response"' not in event:
            return event
        lines = event.splitlines(keepends=True)
        payload = self._payload(b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:")))
        if payload is None:
            return event
        kept = [line for line in lines if not line.startswith(b"data:")]
        # The blank line that ends an event comes last, and is missing only at the end of a stream.
        end = kept.pop() if kept and not kept[-1].strip() else b""
        return b"".join((*kept, b"data: ", payload, b"\n", end))

    def _payload(self, data: bytes) -> bytes | None:
        """An event's data with the id in it; ``None`` if it shows no response."""
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        response = payload.get("response") if isinstance(payload, dict) else None
        if not isinstance(response, dict) or "id" not in response:
            return None
        return dumps({**payload, "response": {**response, "id": self._id}})
