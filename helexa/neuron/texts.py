"""Answers as text completions have them."""

from collections.abc import Sequence
from itertools import chain

from attrs import define, field

from helexa.neuron.answer import Answer, Piece
from helexa.neuron.logprobs import Entry
from helexa.text import ContentDelta
from helexa.wire import sse
from helexa.wire.completion import Usage
from helexa.wire.completions import CompletionRequest, PromptToken, TextHead, TextLogprobs, text_choice


@define(eq=False)
class TextWriter:
    """Implements ``exchange.Writer``.

    Args:
        request: what is answered.
        head: what every piece repeats.
        echoes: what each prompt's answers begin with; empty where that was not asked for.

    Attributes:
        prompt: the request's field with the prompts.
    """

    _request: CompletionRequest
    _head: TextHead
    _echoes: Sequence[str]
    prompt: str = field(default="prompt", init=False)
    _logprobs: dict[int, TextLogprobs] = field(factory=dict, init=False)

    def begin(self, choices: int) -> bytes:
        """The prompts, to who wants to see them again."""
        return b"".join(self._event(index, self._echo(index)) for index in range(choices) if self._echo(index))

    def piece(self, index: int, piece: Piece) -> bytes:
        """More text, or more of what is known of the prompt."""
        return self._event(index, _text(piece), None, piece.entries, piece.prompt)

    def end(self, index: int, answer: Answer) -> bytes:
        """A chunk with the reason and with no more text."""
        return self._event(index, "", answer.finish_reason, answer.last_entries())

    def usage(self, found: Usage) -> bytes:
        """The chunk without choices."""
        return sse.event(self._head.usage_chunk(found)) if self._request.include_usage else b""

    def whole(self, pieces: Sequence[Sequence[Piece]], answers: Sequence[Answer], found: Usage) -> bytes:
        """The body."""
        choices = [self._choice(index, *each) for index, each in enumerate(zip(pieces, answers, strict=True))]
        return sse.dumps(self._head.completion(choices, found))

    def _choice(self, index: int, pieces: Sequence[Piece], answer: Answer) -> dict[str, object]:
        text = self._echo(index) + "".join(map(_text, pieces))
        entries = [*chain.from_iterable(piece.entries for piece in pieces), *answer.last_entries()]
        prompt = [*chain.from_iterable(piece.prompt for piece in pieces)]
        asked = self._request.sampling.logprobs is not None
        logprobs = self._of(index).to_json(entries, prompt) if asked else None
        return text_choice(index, text, answer.finish_reason, logprobs)

    def _event(
        self,
        index: int,
        text: str,
        reason: str | None = None,
        entries: Sequence[Entry] = (),
        prompt: Sequence[PromptToken] = (),
    ) -> bytes:
        logprobs = self._of(index).to_json(entries, prompt) if entries or prompt else None
        return sse.event(self._head.chunk(text_choice(index, text, reason, logprobs)))

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._request.sampling.n] if self._echoes else ""

    def _of(self, index: int) -> TextLogprobs:
        return self._logprobs.setdefault(index, TextLogprobs(len(self._echo(index))))


def _text(piece: Piece) -> str:
    assert isinstance(piece.delta, ContentDelta), "a completion is nothing but text"
    return piece.delta.text
