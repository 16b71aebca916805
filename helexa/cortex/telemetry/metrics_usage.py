"""What an answer's own bytes tell of it: its first token, what it has cost, why it failed. Pure.

Of answers on their way through no more is read than has to be. What makes no sense is passed over: an
upstream may send anything, and an answer is not to fail because it could not be counted.
"""

from re import compile as pattern
from typing import Any

import orjson

from helexa.wire.completion import Usage
from helexa.wire.dialect import Json

MAX_BYTES = 2**24
"""What is longer is not read: all other requests wait while it is."""
_MARKS = (b'"usage"', b'"eval_count"')
_TOKEN = pattern(
    rb'"(?:content|reasoning_content|reasoning|text|arguments)": ?"[^"]|"tool_calls": ?\[ ?\{|"finish_reason": ?"'
    rb'|"type": ?"[a-z_.]+[._]delta"'
)
"""A chat's delta that is not empty, or what Responses and Messages call one. Quotes within JSON strings are escaped, so
no text of a model looks like this; and to search is several times faster than to parse."""
_MOST_TOKENS = 2**40
_OLLAMA = (("prompt_tokens", "prompt_eval_count"), ("completion_tokens", "eval_count"))


def of_body(body: bytes) -> Usage | None:
    """The token counts in an answer in one piece, of any dialect; ``None`` if there are none."""
    return usage_of(counts_of(body)) if any(mark in body for mark in _MARKS) else None


def has_token(events: bytes) -> bool:
    """Whether one of these events adds something to an answer, or ends it: others only announce it."""
    return _TOKEN.search(events) is not None


def code_of(body: bytes) -> str | None:
    """The code in an error's answer, or its type where it has none."""
    error = _object(body).get("error")
    named = (error.get("code"), error.get("type")) if isinstance(error, dict) else ()
    return next((each for each in named if isinstance(each, str) and each), None)


def _object(data: bytes) -> Json:
    if len(data) > MAX_BYTES:
        return {}
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def counts_of(data: bytes) -> Json:
    """The counts in an answer or an event: a chat's, a message's, Ollama's, or those of what an event is about."""
    payload = _object(data)
    for holder in (payload, payload.get("response"), payload.get("message")):
        if isinstance(holder, dict) and isinstance(found := holder.get("usage"), dict):
            return found
    return {ours: payload[theirs] for ours, theirs in _OLLAMA if theirs in payload}


def usage_of(counts: Json) -> Usage | None:
    """Counts read: OpenAI's under its older and its newer names, and Anthropic's, which leave cached tokens out."""
    if "prompt_tokens" in counts or "completion_tokens" in counts:
        return _checked(_count(counts, "prompt_tokens"), _count(counts, "completion_tokens"), _cached(counts, "prompt"))
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    prompt, answer = _count(counts, "input_tokens"), _count(counts, "output_tokens")
    if isinstance(counts.get("input_tokens_details"), dict):
        return _checked(prompt, answer, _cached(counts, "input"))
    cached = _count(counts, "cache_read_input_tokens")
    return _checked(prompt + cached + _count(counts, "cache_creation_input_tokens"), answer, cached)


def _checked(prompt: int, answer: int, cached: int) -> Usage:
    return Usage(prompt, answer, cached_tokens=min(prompt, cached))


def _cached(counts: Json, of: str) -> int:
    return _count(counts.get(f"{of}_tokens_details"), "cached_tokens")


def _count(counts: Any, key: str) -> int:
    found = counts.get(key) if isinstance(counts, dict) else None
    return found if type(found) is int and 0 <= found <= _MOST_TOKENS else 0
