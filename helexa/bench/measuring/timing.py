"""When the pieces of an answer came, and what that makes: latencies, rates. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import orjson
from attrs import frozen

from helexa.bench.client.exchanges import Exchange, TargetError

FAR_OFF: Final = 0.1
"""A prompt was brought to its length with the server's own count; when it counts so differently now, it guesses."""
SPARE_EVENTS: Final = 4
"""Events with content beyond one per token: one token may end a block of reasoning and begin the text after it."""
_CLOCK_NOISE: Final = 0.001
"""Seconds that an arrival may seem to be out of order: arrivals are the kernel's times, requests are ours."""
_CONTENT: Final = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")


@frozen
class Timing:
    """One streamed answer. Times are seconds of ``time.perf_counter``.

    Attributes:
        since: when it was asked for, or, under load, when it was to be asked for.
        first: when its first content came.
        last: when its last token was known.
        ended: when the stream had ended.
        gaps: seconds between events with content.
        prompt_tokens: as the server counts.
        tokens: of the answer, as the server counts; reasoning is part of it.
        cached_tokens: of the prompt, found in a cache; ``None``: not told.
    """

    since: float
    first: float
    last: float
    ended: float
    gaps: tuple[float, ...]
    prompt_tokens: int
    tokens: int
    cached_tokens: int | None = None

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return self.first - self.since

    @property
    def total(self) -> float:
        """Seconds to the end."""
        return self.ended - self.since

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first; ``None``: there was one, or all came at once."""
        window = self.last - self.first
        return window / (self.tokens - 1) if self.tokens > 1 and window > 0 else None

    @property
    def decode_rate(self) -> float | None:
        """Tokens per second over the decode window: from the first token to the last."""
        return None if self.tpot is None else 1 / self.tpot


def percentile(values: Sequence[float], share: float) -> float:
    """What ``share`` (0 to 1) of the values do not exceed, between two of them by their distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def read(
    exchange: Exchange, *, max_tokens: int, prompt_tokens: int | None = None, since: float | None = None
) -> Timing:
    """The timing of a streamed answer, from ``/v1/chat/completions`` or ``/v1/completions``.

    Args:
        exchange: what came.
        max_tokens: what was asked for.
        prompt_tokens: what the prompt was brought to; ``None``: not known.
        since: when it should have been asked for; ``None``: when it was.

    Raises:
        TargetError: ``refused``: an error came as an event; ``protocol``: no such stream; ``usage_missing``;
            ``lying``: it cannot have been so.
    """
    events = [(at, _object(data)) for at, data in exchange.events]
    _check_stream(exchange, events)
    content = [at for at, event in events if _has_content(event)]
    usage = usage_of(event for _, event in events)
    _check_counts(usage, len(content), max_tokens, prompt_tokens)
    _check_order(exchange, [at for at, _ in events])
    start = exchange.sent_at if since is None else since
    first, last = content[0], max(content[-1], *(at for at, event in events if _finishes(event)), content[0])
    gaps = tuple(max(0.0, later - earlier) for earlier, later in pairwise(content))
    return Timing(
        start, max(first, start), last, max(exchange.ended_at, last), gaps, usage.prompt, usage.answer, usage.cached
    )


@frozen
class Usage:
    """Tokens of a request, as its server counts them."""

    prompt: int
    answer: int
    cached: int | None = None


def usage_of(answers: Iterable[Mapping[str, Any]]) -> Usage:
    """The last usage in events, or in an answer.

    Raises:
        TargetError: ``usage_missing``.
    """
    found = [each["usage"] for each in answers if isinstance(each.get("usage"), dict)]
    if not found:
        raise TargetError("usage_missing", "The server does not tell how many tokens it used.")
    prompt, answer = (_count(found[-1], name) for name in ("prompt_tokens", "completion_tokens"))
    details = found[-1].get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(prompt, answer, cached if isinstance(cached, int) else None)


def _count(usage: Mapping[str, Any], name: str) -> int:
    found = usage.get(name, 0 if name == "completion_tokens" else None)  # embeddings have none
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TargetError("usage_missing", f"The server's usage has no count of {name}.")
    return found


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(data)
    except ValueError:
        raise TargetError("protocol", "The stream has an event that is not JSON.") from None
    if not isinstance(found, dict):
        raise TargetError("protocol", "The stream has an event that is no JSON object.")
    return found


def _check_stream(exchange: Exchange, events: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
    failed = next((event["error"] for _, event in events if event.get("error")), None)
    if failed is not None:
        said = failed.get("message") if isinstance(failed, dict) else failed
        raise TargetError("refused", f"The server broke the answer off: {said}")
    if not events:
        raise TargetError("protocol", "The answer is no stream of events.")
    if not exchange.done:
        raise TargetError("protocol", "The stream ended before the answer did.")


def _check_counts(usage: Usage, pieces: int, max_tokens: int, prompt_tokens: int | None) -> None:
    if usage.answer > max_tokens:
        raise _lie(f"It counts {usage.answer} tokens where {max_tokens} were the most.")
    if pieces and not usage.answer:
        raise _lie("It counts no tokens, and text came.")
    if not pieces:
        raise TargetError("protocol", f"No content came, though {usage.answer} tokens are counted.")
    if pieces > usage.answer + SPARE_EVENTS:
        raise _lie(f"Text came in {pieces} pieces, more than the {usage.answer} tokens that it counts.")
    if prompt_tokens is not None and abs(usage.prompt - prompt_tokens) > max(8, FAR_OFF * prompt_tokens):
        raise _lie(f"It counts {usage.prompt} tokens of a prompt that it counted {prompt_tokens} of before.")


def _check_order(exchange: Exchange, arrivals: Sequence[float]) -> None:
    times = (exchange.sent_at, *arrivals, exchange.ended_at)
    if any(later < earlier - _CLOCK_NOISE for earlier, later in pairwise(times)):
        raise _lie("Time ran backwards while it answered.")
    if arrivals[0] <= exchange.sent_at:
        raise _lie("It answered before it was asked.")


def _lie(sentence: str) -> TargetError:
    return TargetError("lying", f"The server's figures cannot be true. {sentence}")


def _choices(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = event.get("choices")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _has_content(event: Mapping[str, Any]) -> bool:
    return any(choice.get("text") or _says(choice.get("delta")) for choice in _choices(event))


def _says(delta: Any) -> bool:
    return isinstance(delta, dict) and any(delta.get(name) for name in _CONTENT)


def _finishes(event: Mapping[str, Any]) -> bool:
    # Not the last content: tokens that are no text (an end that was to be ignored) come after it, and are counted.
    return any(choice.get("finish_reason") for choice in _choices(event))
