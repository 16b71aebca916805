"""OpenAI's older text completions: the request, read strictly, and the response, whole and in chunks.

Source: OpenAI API reference, "Create completion" and "The completion object"; vLLM's names where OpenAI has none.
"""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from attrs import define, evolve, field, frozen

from helexa.wire import decoding, errors, structured
from helexa.wire.completion import LEAST_LOGPROB, Usage
from helexa.wire.fields import Fields
from helexa.wire.sampling import SamplingParams
from helexa.wire.structured import StructuredOutput

MAX_PROMPTS = 1024
MAX_CHOICES = 1024
"""Of all prompts together."""
MAX_LOGPROBS = 5
DEFAULT_TOKENS = 16
"""OpenAI's, where a request does not say how many it wants."""
_MAX_PROMPT_TOKENS = 2**22

TextPrompt = str | tuple[int, ...]
"""Text, or token ids."""


@frozen
class CompletionRequest:
    """A checked completion request.

    Attributes:
        model: the id or alias the caller asked for.
        prompts: at least one; all texts or all token ids.
        suffix: what comes after the text that is asked for; with texts only.
        echo: each answer begins with its prompt, and so do the log probabilities where any are asked for.
        special_tokens: texts get the special tokens that the tokenizer puts around a text.
        structure: what each answer has to match; ``None`` for free text.
        sampling: what the engine needs; a grammar and stop token ids are added by whoever knows the model. Where
            prompts are scored, ``max_tokens`` may be 0.
        stop: stop strings.
        ignore_eos: the model's own end-of-sequence ids do not end an answer. Never together with a structure.
        stream: whether to stream.
        include_usage: whether the stream carries a last chunk with the usage.
    """

    model: str
    prompts: tuple[TextPrompt, ...]
    suffix: str | None = None
    echo: bool = False
    special_tokens: bool = True
    structure: StructuredOutput | None = None
    sampling: SamplingParams = field(factory=SamplingParams)
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    stream: bool = False
    include_usage: bool = False

    @property
    def scores_prompts(self) -> bool:
        """Whether the log probabilities of the prompts' own tokens are wanted."""
        return self.echo and self.sampling.logprobs is not None


def parse(body: dict[str, Any], defaults: SamplingParams, vocabulary: int | None = None) -> CompletionRequest:
    """Check a request body.

    Args:
        body: the JSON object.
        defaults: what the model's publisher recommends, for what the caller leaves out.
        vocabulary: number of token ids of the model; ``None`` if not known.

    Raises:
        ApiError: naming the first field that is missing, wrong or not supported.
    """
    fields = Fields(body)
    model = fields.text("model")
    stream = fields.flag("stream")
    request = CompletionRequest(
        model=model,
        prompts=_prompts(fields, vocabulary),
        suffix=fields.text("suffix", None) or None,
        echo=fields.flag("echo"),
        special_tokens=fields.flag("add_special_tokens", default=True),
        structure=structured.parse(fields),
        sampling=_sampling(body, defaults, vocabulary),
        stop=decoding.stops(fields),
        ignore_eos=fields.flag("ignore_eos"),
        stream=stream,
        include_usage=_include_usage(fields, stream=stream),
    )
    _check_together(fields, request)
    return request


def _prompts(fields: Fields, vocabulary: int | None) -> tuple[TextPrompt, ...]:
    prompt = fields.data.get("prompt")
    if prompt is None:
        raise errors.missing("prompt")
    listed = prompt if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else [prompt]
    texts = all(isinstance(each, str) for each in listed)
    if not texts and not all(isinstance(each, list) for each in listed):
        raise fields.wrong("prompt", "a string, a list of strings, a list of token ids or a list of such lists")
    if len(listed) > MAX_PROMPTS:
        raise fields.wrong("prompt", f"at most {MAX_PROMPTS} prompts")
    return tuple(listed) if texts else tuple(_ids(each, vocabulary) for each in listed)


def _ids(prompt: list[Any], vocabulary: int | None) -> tuple[int, ...]:
    last = 2**31 - 1 if vocabulary is None else vocabulary - 1
    found = tuple(Fields({"prompt": prompt}).integers("prompt", 0, last, _MAX_PROMPT_TOKENS))
    if not found:
        raise errors.invalid_value("prompt", "expected at least one token")
    return found


def _sampling(body: dict[str, Any], defaults: SamplingParams, vocabulary: int | None) -> SamplingParams:
    """What chat requests have as well; ``logprobs`` is a number here and a flag there."""
    logprobs = Fields(body).integer("logprobs", 0, MAX_LOGPROBS, None)
    fields = Fields({**body, "logprobs": None, "top_logprobs": None})
    if nothing := _wants_nothing(fields, scored=logprobs is not None and fields.flag("echo")):
        fields.data |= {"max_tokens": 1, "max_completion_tokens": None}
    elif decoding.max_tokens(fields) is None:
        fields.data["max_tokens"] = DEFAULT_TOKENS
    found = evolve(decoding.sampling(fields, defaults, vocabulary), logprobs=logprobs)
    return evolve(found, max_tokens=0) if nothing else found


def _wants_nothing(fields: Fields, *, scored: bool) -> bool:
    """Whether no token is to be generated, which leaves something to answer only where prompts are scored."""
    given = [name for name in ("max_completion_tokens", "max_tokens") if fields.has(name)]
    if not given or fields.integer(given[0], 0, 2**31 - 1, None) != 0:
        return False
    if not scored:
        raise fields.wrong(given[0], "at least 1, unless 'echo' and 'logprobs' ask for what is known of the prompt")
    if fields.integer("min_tokens", 0, 2**31 - 1, 0):
        raise fields.wrong("min_tokens", f"at most '{given[0]}', which is 0")
    return True


def _include_usage(fields: Fields, *, stream: bool) -> bool:
    if not fields.has("stream_options"):
        return False
    if not stream:
        raise errors.invalid_value("stream_options", "only allowed together with 'stream': true")
    return fields.nested("stream_options").flag("include_usage")


def _check_together(fields: Fields, request: CompletionRequest) -> None:
    """Refuse what is fine by itself and cannot be had together."""
    if len(request.prompts) * request.sampling.n > MAX_CHOICES:
        raise fields.wrong("n", f"at most {MAX_CHOICES} answers to all prompts together")
    if request.suffix is not None and request.scores_prompts:
        raise errors.invalid_value("suffix", "not together with 'echo' and 'logprobs': the model reads another prompt")
    if request.suffix is not None and not isinstance(request.prompts[0], str):
        raise errors.invalid_value("suffix", "only allowed where the prompt is text")
    if request.ignore_eos and request.structure is not None:
        raise errors.invalid_value("ignore_eos", "an answer that has to match a grammar ends where the grammar does")
    if fields.integer("best_of", 1, 20, request.sampling.n) != request.sampling.n:
        raise errors.unsupported("best_of", "every answer is returned; ask for as many as 'n'")


@frozen
class TextHead:
    """What every piece of one response repeats."""

    id: str
    model: str
    created: int

    def chunk(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """A streamed chunk of one choice."""
        return self._object([choice])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The chunk after the last choice when ``include_usage`` was asked for."""
        return self._object([]) | {"usage": usage.to_json()}

    def completion(self, choices: Iterable[Mapping[str, Any]], usage: Usage) -> dict[str, Any]:
        """The whole response of a request that does not stream."""
        return self._object(list(choices)) | {"usage": usage.to_json()}

    def _object(self, choices: list[Any]) -> dict[str, Any]:
        head = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}
        return {**head, "choices": choices}


def text_choice(
    index: int, text: str, finish_reason: str | None = None, logprobs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One choice of a whole response, or of a chunk."""
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


@frozen
class PromptToken:
    """A token of a prompt, which was not picked but given.

    Attributes:
        name: what it is called.
        begin: where it begins in the prompt's text, in characters.
        logprob: natural logarithm of its probability; ``None`` for the first, which nothing foretells.
        top: the same of the likeliest tokens in its place, by name, and of itself.
    """

    name: str
    begin: int
    logprob: float | None
    top: dict[str, float] | None

    @classmethod
    def of(cls, token: bytes, begin: int, logprob: float | None, top: Iterable[tuple[bytes, float]]) -> Self:
        """From bytes, each of which may be part of a character only, and logarithms that may be infinite."""
        name = _spell(token)
        if logprob is None:
            return cls(name, begin, None, None)
        found = {_spell(other): max(LEAST_LOGPROB, each) for other, each in (*top, (token, logprob))}
        return cls(name, begin, found[name], found)


@define(eq=False)
class TextLogprobs:
    """The log probabilities of one choice in the older shape, whose offsets go on from chunk to chunk.

    Args:
        offset: characters of the text before the first token that is generated.
    """

    _offset: int = 0
    _decoder: codecs.IncrementalDecoder = field(factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def to_json(self, entries: Sequence[Mapping[str, Any]], prompt: Sequence[PromptToken] = ()) -> dict[str, Any]:
        """The ``logprobs`` object of these tokens.

        Args:
            entries: as in a chat completion; see ``completion.token_logprob``.
            prompt: tokens before them.
        """
        offsets = [self._advance(bytes(entry["bytes"])) for entry in entries]
        return {
            "text_offset": [*(each.begin for each in prompt), *offsets],
            "token_logprobs": [*(each.logprob for each in prompt), *(entry["logprob"] for entry in entries)],
            "tokens": [*(each.name for each in prompt), *map(_name, entries)],
            "top_logprobs": [*(each.top for each in prompt), *map(_likeliest, entries)],
        }

    def _advance(self, token: bytes) -> int:
        """Where a token begins, in characters. One that begins within a character begins with it."""
        begin = self._offset
        self._offset += len(self._decoder.decode(token))
        return begin


def _likeliest(entry: Mapping[str, Any]) -> dict[str, float]:
    """The likeliest tokens, and always the one that was picked."""
    return {_name(each): each["logprob"] for each in (*entry["top_logprobs"], entry)}


def _name(entry: Mapping[str, Any]) -> str:
    return _spell(bytes(entry["bytes"]))


def _spell(token: bytes) -> str:
    r"""A token's text, or OpenAI's spelling of part of a character: ``bytes:\xf0\x9f``."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
