"""From one choice's token ids to what its reader sees: text cut at stop strings, reasoning and tool calls apart."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Self

from attrs import define, frozen

from helexa.engine.protocol import TokenLogprob
from helexa.neuron.logprobs import Entry, Logprobs, PromptLogprobs
from helexa.text import (
    ChatTokenizer,
    ContentDelta,
    Delta,
    IncrementalDetokenizer,
    OutputParser,
    StopStrings,
    ToolCallDelta,
)
from helexa.wire.chat import ChatRequest
from helexa.wire.completion import Usage
from helexa.wire.completions import CompletionRequest, PromptToken


@frozen
class Piece:
    """More of an answer, and the log probabilities of the tokens that it, or what came before it unseen, is made of.

    Attributes:
        prompt: those of tokens of the prompt. The piece has no text then: an echo does not wait for them.
    """

    delta: Delta
    entries: tuple[Entry, ...] = ()
    prompt: tuple[PromptToken, ...] = ()


class PlainText:
    """Stands in for a parser where text is all that an answer may be, whatever it reads like."""

    inside_reasoning = False

    def push(self, text: str) -> Sequence[Delta]:
        """The text as it is."""
        return (ContentDelta(text),) if text else ()

    def finish(self) -> Sequence[Delta]:
        """Nothing is ever held back."""
        return ()


@define(eq=False)
class Answer:
    """One choice in the making. Pure: ids in, pieces out; it never waits.

    Attributes:
        completion_tokens: what was sampled, the token that ended it among them.
        reasoning_tokens: of these, the tokens of the reasoning block with its tags.
        cached_tokens: how many of the prompt's were found in the KV cache; known at the end.
        finish_reason: OpenAI's, once the end has come.
    """

    _detokenizer: IncrementalDetokenizer
    _stops: StopStrings
    _parser: OutputParser | PlainText
    _logprobs: Logprobs
    _silent: frozenset[int]
    _one_call: bool
    _called: str
    _prompt: PromptLogprobs | None = None
    _mute: bool = False
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str | None = None
    _calls: int = 0
    _enough: bool = False

    @classmethod
    def begin(cls, text: ChatTokenizer, request: ChatRequest, ends: frozenset[int], *, inside_reasoning: bool) -> Self:
        """The state before the first token.

        Args:
            text: the model's.
            request: what is answered.
            ends: the token ids that end this answer.
            inside_reasoning: the prompt itself has opened the block.
        """
        tools = request.tool_choice
        # Text that has to match a structure has no room for calls, even where it reads like one.
        calls = bool(request.tools) and request.structure is None
        # Where nothing but us ends an answer after its first call, the call is taken whole: so its end is seen.
        one_call = calls and not tools.parallel and not tools.forced
        parser = text.output_parser(
            tools=calls,
            inside_reasoning=inside_reasoning,
            stream_arguments=request.stream and not one_call,
            tool_schemas=request.tools,
        )
        return cls(
            text.decode_stream(tools=calls),
            StopStrings(request.stop),
            parser,
            Logprobs(text, ends, asked=request.sampling.logprobs is not None),
            text.eos_ids | ends,
            one_call,
            # OpenAI says ``tool_calls`` where calling was the model's choice, ``stop`` where it was told what to call.
            "tool_calls" if tools.name is None else "stop",
        )

    @classmethod
    def of_text(cls, text: ChatTokenizer, request: CompletionRequest, ends: frozenset[int]) -> Self:
        """The same for a text completion: no part of it is reasoning or a call."""
        # Who scores prompts tells their tokens from the answer's by how many there are: none may be missing.
        hidden = frozenset[int]() if request.scores_prompts else ends
        return cls(
            text.decode_stream(),
            StopStrings(request.stop),
            PlainText(),
            Logprobs(text, hidden, asked=request.sampling.logprobs is not None),
            text.eos_ids | ends,
            one_call=False,
            called="stop",
            prompt=PromptLogprobs(text) if request.scores_prompts else None,
            mute=request.sampling.max_tokens == 0,
        )

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended it, if one did."""
        return self._stops.matched

    @property
    def stopped(self) -> bool:
        """Whether the answer is complete although the engine would go on; later ids are ignored."""
        return self._enough or self._stops.matched is not None

    def push(self, ids: Iterable[int], logprobs: Iterable[TokenLogprob] = ()) -> list[Piece]:
        """What the new ids add."""
        found: list[Piece] = []
        for token, logprob in zip_longest(ids, logprobs):
            if self.stopped:
                break
            if logprob is not None and logprob.prompt:
                self._take_prompt(token, logprob)
            elif not self._mute:
                self._logprobs.add(token, logprob)
                found += self._pieces(self._deltas(token))
        return found if self._prompt is None else [*self._prompt_pieces(self._prompt), *found]

    def _take_prompt(self, token: int, logprob: TokenLogprob) -> None:
        assert self._prompt is not None, "asked for"
        self._prompt.add(token, logprob)

    def _prompt_pieces(self, gathered: PromptLogprobs) -> list[Piece]:
        tokens = gathered.take()
        return [Piece(ContentDelta(""), prompt=tokens)] if tokens else []

    def _deltas(self, token: int) -> Sequence[Delta]:
        self.completion_tokens += 1
        # A token that ends an answer is counted, as it was sampled, and never shown, be it marked special or not.
        if token in self._silent:
            return ()
        inside = self._parser.inside_reasoning
        deltas = self._parser.push(self._stops.push(self._detokenizer.push([token])))
        # Before or after: the block's tags belong to it.
        self.reasoning_tokens += inside or self._parser.inside_reasoning
        return self._until_enough(deltas)

    def _until_enough(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        for position, delta in enumerate(deltas):
            if isinstance(delta, ToolCallDelta) and delta.id:
                self._calls += 1
                if self._one_call:
                    self._enough = True
                    return deltas[: position + 1]
        return deltas

    def _pieces(self, deltas: Sequence[Delta]) -> list[Piece]:
        """Deltas with the log probabilities so far, all of which go with the first of them."""
        return [Piece(delta, self._logprobs.take()) for delta in deltas]

    def finish(self, engine_reason: str, cached_tokens: int = 0) -> list[Piece]:
        """The end has come: what was held back until then.

        Args:
            engine_reason: ``stop``, ``length`` or ``abort``.
            cached_tokens: how many of the prompt's tokens were found in the KV cache.
        """
        pieces = [] if self._enough else self._pieces(self._until_enough(self._rest()))
        self.cached_tokens = cached_tokens
        self.finish_reason = self._reason(engine_reason)
        return pieces

    def _rest(self) -> Sequence[Delta]:
        text = "" if self.stopped else self._stops.push(self._detokenizer.finish()) + self._stops.finish()
        return [*self._parser.push(text), *self._parser.finish()]

    def _reason(self, engine_reason: str) -> str:
        # The limit goes first: the last of the calls may be cut off by it, and nobody should run that.
        if self._mute or (engine_reason == "length" and not self.stopped):
            return "length"
        return self._called if self._calls else "stop"

    def last_entries(self) -> tuple[Entry, ...]:
        """Log probabilities of tokens that no piece has shown; they go with the end."""
        return self._logprobs.take()


def usage(prompt_tokens: int, answers: Sequence[Answer], n: int) -> Usage:
    """What a request has cost so far.

    Args:
        prompt_tokens: of all prompts.
        answers: of all choices, prompt by prompt.
        n: choices of each prompt; they share it, so the first one tells what of it was cached.
    """
    return Usage(
        prompt_tokens,
        sum(answer.completion_tokens for answer in answers),
        sum(answer.reasoning_tokens for answer in answers),
        sum(answer.cached_tokens for answer in answers[::n]),
    )
