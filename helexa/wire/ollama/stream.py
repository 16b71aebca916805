"""Ollama's stream, a JSON object on each line, read as chunks."""

from helexa.wire.completion import Head
from helexa.wire.dialect import Json, read_object
from helexa.wire.ollama import answers
from helexa.wire.ollama.failures import reported


class OllamaReader:
    """See `helexa.wire.dialect.ChunkReader`.

    Args:
        model: what the chunks call the model.

    Attributes:
        complete: the last line was seen: whatever happens to the connection now, nothing is lost.
    """

    def __init__(self, model: str) -> None:
        self.complete = False
        self._model = model
        self._tail = b""
        self._head: Head | None = None
        self._calls = 0

    def push(self, data: bytes) -> list[Json]:
        """The chunks that these bytes complete.

        Raises:
            ApiError: Ollama reported an error.
            ValueError: it sent something else; one sentence that begins with "it".
        """
        *lines, self._tail = (self._tail + data).split(b"\n")
        return [chunk for line in lines for chunk in self._line(line)]

    def finish(self) -> list[Json]:
        """What the end of the connection completes: a last line may lack its end.

        Raises:
            ApiError: Ollama reported an error.
            ValueError: the answer had not come to its end, or is something else.
        """
        line, self._tail = self._tail, b""
        found = self._line(line)
        if not self.complete:
            raise ValueError("it ended its stream before the answer was complete")
        return found

    def _line(self, line: bytes) -> list[Json]:
        if self.complete or not line.strip():
            return []
        return self._piece(read_object(line, "it sent a line that is"))

    def _piece(self, piece: Json) -> list[Json]:
        failure = reported(piece)
        if failure is not None:
            raise failure
        message = answers.message(piece)
        found: list[Json] = []
        if self._head is None:
            self._head = answers.head(piece, self._model)
            found.append(self._head.chunk(0, {"role": "assistant", "content": ""}))
        deltas = self._deltas(message)
        scored = answers.entries(piece)
        found += [self._head.chunk(0, delta, None, () if i else scored) for i, delta in enumerate(deltas)]
        return found + (self._end(piece, self._head, [] if deltas else scored) if piece.get("done") is True else [])

    def _deltas(self, message: Json) -> list[Json]:
        texts = {"reasoning_content": answers.text(message, "thinking"), "content": answers.text(message, "content")}
        found: list[Json] = [{key: text} for key, text in texts.items() if text]
        for call in answers.calls_of(message):
            found.append({"tool_calls": [{"index": self._calls, **answers.called(call)}]})
            self._calls += 1
        return found

    def _end(self, piece: Json, head: Head, scored: list[Json]) -> list[Json]:
        self.complete = True
        reason = answers.reason(piece, called=self._calls > 0)
        return [head.chunk(0, {}, reason, scored), head.usage_chunk(answers.usage(piece))]
