"""Counts the tokens of answers whose servers are not ours: by what they tell, or by what can be seen of them.

A client that leaves in the middle of a stream leaves before the server has told anything, in most dialects. What it got
until then is counted by its events, of which servers send one for each token, or nearly so. Pure.
"""

from collections.abc import Iterable
from re import compile as pattern
from typing import Protocol

from attrs import define, field

from helexa.cortex.telemetry import metrics_usage
from helexa.wire.completion import Usage
from helexa.wire.dialect import Json
from helexa.wire.meter import Totals

_BYTES_PER_TOKEN = 4
"""Of English text, about; and of JSON, which what is estimated here is mostly made of, no fewer."""
_TELLS = pattern(rb'"usage": ?\{|"(?:prompt_)?eval_count"')


class Source(Protocol):
    """One attempt's stream on its way from the server, counted. Used once."""

    @property
    def totals(self) -> Totals | None:
        """What the bytes that were handed out have cost; ``None`` before there were any."""

    @property
    def estimated(self) -> bool:
        """Whether that is not what the server itself has said."""

    def push(self, data: bytes) -> bytes:
        """What of these bytes, and of those before, may be passed on now."""

    def finish(self) -> bytes:
        """What is left at the stream's end."""


def about(size: int) -> int:
    """How many tokens so many bytes may be."""
    return -(-size // _BYTES_PER_TOKEN)


@define(eq=False)
class Tally:
    """Implements ``Source``; hands out everything at once.

    Attributes:
        prompt: tokens of the prompt, estimated.
    """

    prompt: int
    _counts: Json = field(factory=dict)
    _told: Usage | None = None
    _deltas: int = 0
    _deltas_when_told: int = 0
    _begun: bool = False
    _tail: list[bytes] = field(factory=list)

    @property
    def totals(self) -> Totals | None:
        """See ``Source``."""
        if self._told is None:
            return (self.prompt, self._deltas, 0) if self._begun else None
        told = self._told
        answer = max(told.completion_tokens, self._deltas) if self.estimated else told.completion_tokens
        return told.prompt_tokens, answer, told.cached_tokens

    @property
    def estimated(self) -> bool:
        """See ``Source``. What was told counts as long as nothing has come since: Anthropic tells at both ends."""
        return self._told is None or self._deltas > self._deltas_when_told

    def push(self, data: bytes) -> bytes:
        """See ``Source``."""
        self._begun = True
        *lines, tail = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail = []
            self._read(lines)
        self._tail.append(tail)
        return data

    def finish(self) -> bytes:
        """See ``Source``."""
        self._read([b"".join(self._tail)])
        self._tail = []
        return b""

    def _read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if metrics_usage.has_token(line):
                self._deltas += 1
            if _TELLS.search(line) is not None:
                self._hear(metrics_usage.counts_of(line.removeprefix(b"data:")))

    def _hear(self, counts: Json) -> None:
        """Anthropic's streams tell of the prompt at their beginning and of the answer at their end."""
        self._counts |= {key: value for key, value in counts.items() if value is not None}
        self._told = metrics_usage.usage_of(self._counts)
        self._deltas_when_told = self._deltas


def of_answer(body: bytes, prompt: int) -> tuple[Totals, bool]:
    """What an answer in one piece has cost, and whether that is an estimate.

    Args:
        body: as its server sent it.
        prompt: tokens of the prompt, estimated.
    """
    found = metrics_usage.of_body(body)
    if found is None:
        return (prompt, about(len(body)), 0), True
    return (found.prompt_tokens, found.completion_tokens, found.cached_tokens), False
