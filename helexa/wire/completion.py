"""OpenAI chat completions: the response, whole and in chunks.

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

LEAST_LOGPROB = -9999.0
"""Stands for a probability of nothing, which has no logarithm in JSON; the same as OpenAI's."""


@frozen
class Usage:
    """Token counts of one request, exact: the prompt as rendered, the tokens as sampled, over all choices.

    Attributes:
        prompt_tokens: counted once, however many choices there are.
        cached_tokens: of the prompt's, those found in the KV cache.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """OpenAI's ``usage`` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


def token_logprob(token: bytes, logprob: float) -> dict[str, Any]:
    """One token and the natural logarithm of its probability.

    Args:
        token: its bytes, which may be part of a character only.
        logprob: may be infinite.
    """
    # The order matters: compared this way round, a logarithm that is no number gives way, too.
    bounded = max(LEAST_LOGPROB, logprob)
    return {"token": token.decode("utf-8", "replace"), "logprob": bounded, "bytes": list(token)}


def logprobs(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ``logprobs`` of a choice or of a chunk of one."""
    return {"content": entries, "refusal": None}


@frozen
class Head:
    """What every piece of one response repeats."""

    id: str
    model: str
    created: int

    def chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        entries: Sequence[Mapping[str, Any]] = (),
        stop: str | None = None,
    ) -> dict[str, Any]:
        """A streamed chunk of one choice.

        Args:
            index: the choice's.
            delta: what is new.
            finish_reason: in its last chunk.
            entries: the log probabilities that go with it.
            stop: the stop string that ended it.
        """
        found = logprobs(entries) if entries else None
        choice = {"index": index, "delta": delta, "logprobs": found, "finish_reason": finish_reason}
        return self._object("chat.completion.chunk", [choice | _stopped_by(stop)])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The chunk after the last choice when ``include_usage`` was asked for."""
        return self._object("chat.completion.chunk", []) | {"usage": usage.to_json()}

    def completion(self, choices: Iterable[Mapping[str, Any]], usage: Usage) -> dict[str, Any]:
        """The whole response of a request that does not stream."""
        return self._object("chat.completion", list(choices)) | {"usage": usage.to_json()}

    def _object(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def choice(
    index: int,
    message: Mapping[str, Any],
    finish_reason: str,
    entries: Sequence[Mapping[str, Any]] | None,
    stop: str | None = None,
) -> dict[str, Any]:
    """One choice of a whole response; ``entries`` are ``None`` where no log probabilities were asked for."""
    found = None if entries is None else logprobs(entries)
    return {"index": index, "message": message, "logprobs": found, "finish_reason": finish_reason} | _stopped_by(stop)


def _stopped_by(stop: str | None) -> dict[str, Any]:
    """Which stop string it was: not OpenAI's, but vLLM's, and Anthropic's dialect has to tell it."""
    return {} if stop is None else {"stop_reason": stop}
