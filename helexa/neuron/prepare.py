"""From a checked request to what the engine takes: the prompt's token ids, and sampling parameters with a grammar."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import trio
from attrs import asdict, evolve, frozen

from helexa.engine.protocol import ScoringParams
from helexa.neuron.infill import Infill, end_ids, infill_of
from helexa.neuron.service import Face, Service
from helexa.text import (
    ChatTokenizer,
    GrammarError,
    TextError,
    prompt_closes_reasoning,
    prompt_opens_reasoning,
)
from helexa.wire import errors, meter
from helexa.wire.chat import ChatRequest
from helexa.wire.completions import CompletionRequest, TextPrompt
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Limit
from helexa.wire.meter import Allowance
from helexa.wire.sampling import SamplingParams

T = TypeVar("T")
_NONE: frozenset[int] = frozenset()
MAX_SCORED = 2**17
"""Tokens of prompts whose log probabilities one request may have, each choice counted: all are kept until its end."""
_INLINE_BYTES = 16_384
"""Bodies up to this size are tokenized on the event loop: below a millisecond, less than a thread costs under load."""


@frozen
class Prepared:
    """A request the engine can be asked.

    Attributes:
        prompts: the token ids of each prompt, at least one; a chat has one prompt.
        sampling: with the ids that end an answer, and with the grammar if there is one.
        inside_reasoning: the prompt ends within a reasoning block.
    """

    prompts: tuple[list[int], ...]
    sampling: SamplingParams
    inside_reasoning: bool = False

    @property
    def ends(self) -> frozenset[int]:
        """The token ids that end an answer."""
        return frozenset(self.sampling.stop_token_ids)

    @property
    def choices(self) -> int:
        """Answers to all prompts together."""
        return len(self.prompts) * self.sampling.n

    @property
    def tokens(self) -> int:
        """Of all prompts together."""
        return sum(map(len, self.prompts))

    def within(self, allowance: Allowance, asked: int | None, context: int | None) -> "Prepared":
        """The same with answers that keep to what the request may use.

        Args:
            allowance: what that is.
            asked: how long the caller itself said that each answer may get: a shorter one would not be what it wants.
            context: of the model, in tokens: no answer is longer than that leaves room for.

        Raises:
            ApiError: ``budget_exceeded``.
        """
        room, most = allowance.each(self.tokens, self.choices), self.sampling.max_tokens
        wanted = max(1, asked or self.sampling.min_tokens)
        if context is not None:
            wanted = min(wanted, context - min(map(len, self.prompts)))
        if room < wanted:
            raise meter.ExceededError.of(self.tokens, wanted, room)
        if most is not None and most <= room:
            return self
        return evolve(self, sampling=evolve(self.sampling, max_tokens=room))


@frozen
class Prompt:
    """The rendered prompt's ids, and how it leaves the reasoning block, for models that have one."""

    ids: list[int]
    opens_reasoning: bool
    closes_reasoning: bool


async def prepare(service: Service, face: Face, request: ChatRequest, size: int) -> Prepared:
    """Render, tokenize, compile.

    Args:
        service: knows how much fits.
        face: of the model.
        request: checked.
        size: bytes of its body.

    Raises:
        ApiError: the template refuses the messages, the prompt does not fit, or the structure asked for does not
            compile.
    """
    prompt = await render(face.text, request, size)
    limit = service.report(request.model).limit
    if limit is not None and len(prompt.ids) > limit.input:
        raise errors.context_length_exceeded(limit.context, len(prompt.ids))
    found = await _grammar(service, face, request, prompt)
    return Prepared((prompt.ids,), _completed(face.text, request, found), prompt.opens_reasoning)


async def prepare_texts(service: Service, face: Face, request: CompletionRequest, size: int) -> Prepared:
    """The same for text completions, whose prompts are taken as they are.

    Raises:
        ApiError: a prompt does not fit or is empty, too many tokens are to be scored, the model does not know how to
            fill a hole, or the structure asked for does not compile.
    """
    infill = _infill(face.text, request)
    prompts = await beside_the_loop(lambda: _encode_all(face.text, request, infill), size, "prompt")
    _check_lengths(prompts, service.report(request.model).limit)
    _check_scored(prompts, request)
    # As a chat whose reasoning is over: a completion has no place for any.
    asked = ChatRequest(request.model, (), structure=request.structure)
    found = await _grammar(service, face, asked, Prompt([], opens_reasoning=False, closes_reasoning=True))
    ends = end_ids(face.text, infill) if infill else _NONE
    sampling = _completed(face.text, request, found, ends)
    return Prepared(prompts, _scoring(sampling) if request.scores_prompts else sampling)


def echoes(text: ChatTokenizer, request: CompletionRequest) -> tuple[str, ...]:
    """What each prompt's answers begin with; empty where nobody asked for that."""
    return tuple(_as_text(text, prompt) for prompt in request.prompts) if request.echo else ()


def _as_text(text: ChatTokenizer, prompt: TextPrompt) -> str:
    if isinstance(prompt, str):
        return prompt
    stream = text.decode_stream()
    return stream.push(prompt) + stream.finish()


def _infill(text: ChatTokenizer, request: CompletionRequest) -> Infill | None:
    if request.suffix is None:
        return None
    found = infill_of(text)
    if found is None:
        raise errors.unsupported("suffix", f"'{request.model}' has no tokens that mark a hole to be filled")
    return found


def _encode_all(text: ChatTokenizer, request: CompletionRequest, infill: Infill | None) -> tuple[list[int], ...]:
    def encode(prompt: TextPrompt) -> list[int]:
        if not isinstance(prompt, str):
            return list(prompt)
        whole = prompt if infill is None else infill.render(prompt, request.suffix or "")
        return text.encode(whole, add_special_tokens=request.special_tokens)

    return tuple(map(encode, request.prompts))


def _check_lengths(prompts: Iterable[list[int]], limit: Limit | None) -> None:
    for ids in prompts:
        if not ids:
            raise errors.invalid_value("prompt", "expected at least one token")
        if limit is not None and len(ids) > limit.input:
            raise _too_long(limit.context, len(ids))


def _check_scored(prompts: Iterable[list[int]], request: CompletionRequest) -> None:
    tokens = sum(map(len, prompts)) * request.sampling.n
    if request.scores_prompts and tokens > MAX_SCORED:
        most = f"the log probabilities of at most {MAX_SCORED} tokens of prompts, those of each choice counted"
        raise errors.invalid_value("echo", f"one request gets {most}; these have {tokens}")


def _scoring(sampling: SamplingParams) -> ScoringParams:
    """The same, and prompts are scored. Where no token is wanted the engine still picks one, which nobody sees."""
    assert sampling.logprobs is not None, "asked for together"
    most = None if sampling.max_tokens is None else max(1, sampling.max_tokens)
    fields = asdict(sampling, recurse=False) | {"max_tokens": most}
    return ScoringParams(**fields, prompt_logprobs=sampling.logprobs)


def _too_long(context: int, prompt: int) -> ApiError:
    message = f"This model's context is {context} tokens, and the prompt has {prompt}. Shorten the prompt."
    return ApiError(400, message, "invalid_request_error", "context_length_exceeded", "prompt")


def _completed(
    text: ChatTokenizer, request: ChatRequest | CompletionRequest, grammar: str | None, ends: frozenset[int] = _NONE
) -> SamplingParams:
    """A request's sampling parameters with what only the model tells."""
    own = _NONE if request.ignore_eos else text.eos_ids
    ids = own | ends | frozenset(request.sampling.stop_token_ids)
    return evolve(request.sampling, stop_token_ids=tuple(sorted(ids)), grammar=grammar)


async def render(text: ChatTokenizer, request: ChatRequest, size: int, *, header: bool = True) -> Prompt:
    """The prompt that the model's template makes of a request.

    Args:
        text: the model's.
        request: checked.
        size: bytes of its body.
        header: end with the header of the answer.

    Raises:
        ApiError: the template refuses the messages.
    """

    def run() -> Prompt:
        prompt = text.render(
            request.messages,
            tools=request.tools or None,
            add_generation_prompt=header,
            template_kwargs=request.template_kwargs,
        )
        thinks = text.supports_thinking
        return Prompt(
            text.encode(prompt), thinks and prompt_opens_reasoning(prompt), thinks and prompt_closes_reasoning(prompt)
        )

    return await beside_the_loop(run, size, "messages")


async def beside_the_loop(tokenize: Callable[[], T], size: int, param: str) -> T:
    """Tokenize, in a thread if that takes long.

    Raises:
        ApiError: the text, that of ``param``, cannot be tokenized.
    """
    try:
        return tokenize() if size <= _INLINE_BYTES else await trio.to_thread.run_sync(tokenize)
    except TextError as error:
        raise errors.invalid_value(param, str(error).removesuffix(".")) from None


async def _grammar(service: Service, face: Face, request: ChatRequest, prompt: Prompt) -> str | None:
    """What the output has to match; ``None`` for free text.

    Compiled here before the engine hears of it, so that what does not compile is told to whoever asked. Threads of
    their own keep it from delaying anything but other grammars.
    """
    if request.structure is None and not request.tool_choice.forced:
        return None
    wish = request.template_kwargs.get("enable_thinking")
    thinking = False if prompt.closes_reasoning else wish if isinstance(wish, bool) else None
    compile_ = partial(face.grammars.of, request, inside_reasoning=prompt.opens_reasoning, thinking=thinking)
    try:
        return await trio.to_thread.run_sync(compile_, limiter=service.compilers)
    except GrammarError as error:
        param = request.structure.param if request.structure else "tools"
        raise errors.invalid_value(param, str(error).removesuffix(".")) from None
