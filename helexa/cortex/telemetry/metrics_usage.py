"""What an answer's own bytes tell of it: its first token, what it has cost, why it failed. Pure.

Answers on their way through are not read; these look at a few pieces of them. What makes no sense is passed over: an
upstream may send anything, and an answer is not to fail because it could not be counted.
"""

from collections.abc import Iterable
from re import compile as pattern
from typing import Any

import orjson

from helexa.wire.completion import Usage
from helexa.wire.dialect import Json

MAX_BYTES = 2**20
"""What is longer is not read: all other requests wait while it is."""
_MARK = b'"usage"'
_LAST_EVENTS = 4
_TOKEN = pattern(
    rb'"(?:content|reasoning_content|reasoning|text|arguments)": ?"[^"]|"tool_calls": ?\[ ?\{|"finish_reason": ?"'
    rb'|"type": ?"[a-z_.]+[._]delta"'
)
"""A chat's delta that is not empty, or what Responses and Messages call one. Quotes within JSON strings are escaped, so
no text of a model looks like this; and to search is several times faster than to parse."""
_MOST_TOKENS = 2**40


def of_body(body: bytes) -> Usage | None:
    """The token counts in an answer in one piece, of any dialect; ``None`` if there are none."""
    return _usage(_counts(_object(body))) if _MARK in body else None


def of_stream(first: bytes, last: Iterable[bytes]) -> Usage | None:
    """The token counts in a stream's first and last pieces; ``None`` if there are none.

    Anthropic's streams tell of the prompt in their first event and of the answer in the last but one, and what is told
    later counts. All others tell everything at the end.
    """
    told = _told(first)[:1] + [line for piece in last for line in _told(piece)][-_LAST_EVENTS:]
    found: Json = {}
    for line in told:
        found |= {key: value for key, value in _counts(_object(line)).items() if value is not None}
    return _usage(found)


def _told(events: bytes) -> list[bytes]:
    """The data of the events that may hold counts."""
    if _MARK not in events:
        return []
    return [line.removeprefix(b"data:") for line in events.splitlines() if _MARK in line]


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


def _counts(payload: Json) -> Json:
    """The ``usage`` of a chat or message, or of the response or message that an event is about."""
    for holder in (payload, payload.get("response"), payload.get("message")):
        if isinstance(holder, dict) and isinstance(found := holder.get("usage"), dict):
            return found
    return {}


def _usage(counts: Json) -> Usage | None:
    """OpenAI's counts under its older and its newer names, and Anthropic's, which leave cached tokens out."""
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
