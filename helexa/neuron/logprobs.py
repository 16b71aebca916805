"""Log probabilities of the tokens of one choice, as a reader gets them."""

from typing import Any

from attrs import define, field

from helexa.engine.protocol import TokenLogprob
from helexa.text import ChatTokenizer, IncrementalDetokenizer
from helexa.wire.completion import token_logprob
from helexa.wire.completions import PromptToken

Entry = dict[str, Any]


@define(eq=False)
class Logprobs:
    """Gathers entries until something is sent that they can go with.

    There is one for each token, shown or not (tags, stop strings), except the one that ends the answer: so the tokens
    of an answer without either, put together, are its text.

    Attributes:
        asked: whether the request wants any; otherwise there are none.
    """

    _text: ChatTokenizer
    _ends: frozenset[int]
    asked: bool = field(kw_only=True)
    _entries: list[Entry] = field(factory=list)

    def add(self, token: int, found: TokenLogprob | None) -> None:
        """The next token of the answer."""
        if self.asked and found is not None and found.logprob is not None and token not in self._ends:
            likeliest = [self._entry(other, logprob) for other, logprob in found.top]
            self._entries.append({**self._entry(token, found.logprob), "top_logprobs": likeliest})

    def _entry(self, token: int, logprob: float) -> Entry:
        return token_logprob(self._text.token_bytes(token), logprob)

    def take(self) -> tuple[Entry, ...]:
        """What was gathered since the last call."""
        if not self._entries:
            return ()
        entries, self._entries = tuple(self._entries), []
        return entries


@define(eq=False)
class PromptLogprobs:
    """The same of the tokens of a prompt, which are told one and all: whoever asks counts them."""

    _text: ChatTokenizer
    _tokens: list[PromptToken] = field(factory=list)
    _stream: IncrementalDetokenizer = field(init=False)
    _shown: int = 0

    def __attrs_post_init__(self) -> None:
        self._stream = self._text.decode_stream()

    def add(self, token: int, found: TokenLogprob) -> None:
        """The next token of the prompt."""
        name = self._text.token_bytes
        top = [(name(other), logprob) for other, logprob in found.top]
        self._tokens.append(PromptToken.of(name(token), self._shown, found.logprob, top))
        self._shown += len(self._stream.push([token]))

    def take(self) -> tuple[PromptToken, ...]:
        """What was gathered since the last call."""
        tokens, self._tokens = tuple(self._tokens), []
        return tokens
