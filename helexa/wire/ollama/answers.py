"""Ollama's answers, whole or in pieces, in a chat's shapes."""

import time
from datetime import datetime
from typing import Any
from uuid import uuid4

from helexa.wire.completion import Head, Usage, choice
from helexa.wire.dialect import Json
from helexa.wire.ollama.failures import reported
from helexa.wire.sse import dumps

_MOST = 2**53
"""No count is larger, and every reader of JSON can hold it."""


def to_completion(answer: Json, model: str) -> Json:
    """The completion that an answer in one piece comes down to.

    Args:
        answer: the body.
        model: what the completion calls the model.

    Raises:
        ApiError: it reports an error.
        ValueError: it is no such answer; one sentence that begins with "it".
    """
    failure = reported(answer)
    if failure is not None:
        raise failure
    given = message(answer)
    calls = [called(call) for call in calls_of(given)]
    found: Json = {"role": "assistant", "content": text(given, "content"), "refusal": None}
    if text(given, "thinking"):
        found["reasoning_content"] = text(given, "thinking")
    if calls:
        found = {**found, "content": found["content"] or None, "tool_calls": calls}
    scored = entries(answer)
    only = choice(0, found, reason(answer, called=bool(calls)), scored or None)
    return head(answer, model).completion([only], usage(answer))


def head(answer: Json, model: str) -> Head:
    """What every piece of a completion repeats."""
    return Head(f"chatcmpl-{uuid4().hex}", model, _created(answer.get("created_at")))


def _created(stamp: Any) -> int:
    try:
        return int(datetime.fromisoformat(stamp).timestamp())
    except (TypeError, ValueError, OverflowError):
        return int(time.time())


def message(answer: Json) -> Json:
    """The message, or a piece of it.

    Raises:
        ValueError: there is none.
    """
    found = answer.get("message")
    if not isinstance(found, dict):
        raise ValueError("it sent an answer without a message")  # noqa: TRY004 - what was sent, not what was called with
    return found


def text(given: Json, key: str) -> str:
    """Text under a key; empty where there is none."""
    found = given.get(key)
    return found if isinstance(found, str) else ""


def calls_of(given: Json) -> list[Json]:
    """The functions that a message calls."""
    calls = given.get("tool_calls")
    found = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [call for call in found if isinstance(call.get("function"), dict)]


def called(call: Json) -> Json:
    """A call as a chat has it; older servers give it no id."""
    function = call["function"]
    given = function.get("arguments")
    written = given if isinstance(given, str) else dumps({} if given is None else given).decode()
    named = {"name": text(function, "name"), "arguments": written}
    return {"id": text(call, "id") or f"call_{uuid4().hex}", "type": "function", "function": named}


def reason(answer: Json, *, called: bool) -> str:
    """Why the answer ended, in a chat's words."""
    if answer.get("done_reason") == "length":
        return "length"
    return "tool_calls" if called else "stop"


def entries(answer: Json) -> list[Json]:
    """The log probabilities of a piece, in a chat's shape."""
    given = answer.get("logprobs")
    return [_entry(each) for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _entry(given: Json) -> Json:
    top = given.get("top_logprobs")
    others = [each for each in top if isinstance(each, dict)] if isinstance(top, list) else []
    return {**_scored(given), "top_logprobs": [_scored(each) for each in others]}


def _scored(given: Json) -> Json:
    return {"token": text(given, "token"), "logprob": given.get("logprob", 0.0), "bytes": given.get("bytes")}


def usage(answer: Json) -> Usage:
    """What an answer has cost; a count that is left out is 0."""
    counts = [answer.get(f"{name}_count") for name in ("prompt_eval", "eval", "prompt_eval_cached")]
    prompt, output, cached = (count if type(count) is int and 0 <= count <= _MOST else 0 for count in counts)
    return Usage(prompt, output, cached_tokens=cached)
