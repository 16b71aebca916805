"""OpenAI's older text completions: the request, read strictly, and the response, whole and in chunks.

Source: OpenAI API reference, "Create completion" and "The completion object"; vLLM's names where OpenAI has none.
"""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from helexa.wire import decoding, errors, structured
from helexa.wire.completion import Usage
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
        echo: each answer begins with its prompt.
        special_tokens: texts get the special tokens that the tokenizer puts around a text.
        structure: what each answer has to match; ``None`` for free text.
        sampling: what the engine needs; a grammar and stop token ids are added by whoever knows the model.
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
    if decoding.max_tokens(fields) is None:
        fields.data["max_tokens"] = DEFAULT_TOKENS
    return evolve(decoding.sampling(fields, defaults, vocabulary), logprobs=logprobs)


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
    if request.echo and request.sampling.logprobs is not None:
        raise errors.unsupported("echo", "log probabilities are those of the answer, not of the prompt")
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


@define(eq=False)
class TextLogprobs:
    """The log probabilities of one choice in the older shape, whose offsets go on from chunk to chunk."""

    _offset: int = 0
    _decoder: codecs.IncrementalDecoder = field(factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def to_json(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The ``logprobs`` object of these tokens.

        Args:
            entries: as in a chat completion; see ``completion.token_logprob``.
        """
        return {
            "text_offset": [self._advance(bytes(entry["bytes"])) for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "tokens": [_name(entry) for entry in entries],
            "top_logprobs": [_likeliest(entry) for entry in entries],
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
    r"""A token's text, or OpenAI's spelling of part of a character: ``bytes:\xf0\x9f``."""
    token = bytes(entry["bytes"])
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
