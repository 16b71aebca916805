"""A completion on its way to a client as a response, whole or event by event.

Source: OpenAI API reference, "The response object" and "Streaming events".
"""

from typing import Any

from helexa.wire.completion import LEAST_LOGPROB
from helexa.wire.dialect import Json
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields
from helexa.wire.responses import tools
from helexa.wire.responses.ids import new_id
from helexa.wire.responses.output import REASONING, REFUSAL, TEXT, Events, NewId, Output

_SEALED = "reasoning.encrypted_content"
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "temperature",
    "top_p",
    "user",
)
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is not complete, by a chat's finish reason."""
_TOO_MANY = 429
_FAULT_OF_OURS = 500
_MOST = 2**53
"""No count is larger, and every reader of JSON can hold it."""


class ResponseReply:
    """One response; see `helexa.wire.dialect.Reply`. Created when its request comes.

    Args:
        body: the request, which `requests.to_chat` has accepted.
        created: seconds since the Unix epoch.
        new_id: makes identifiers from their prefixes.
    """

    def __init__(self, body: Json, *, created: int, new_id: NewId = new_id) -> None:
        self._head = _head(body, new_id("resp"), created)
        self._events = Events()
        self._output = Output(self._events, new_id, _SEALED in (body.get("include") or ()))
        self._usage: Json | None = None
        self._reason: str | None = None
        self._begun = False

    def whole(self, completion: Json) -> Json:
        """The response of a request that does not stream."""
        choice = _first(completion)
        message = choice.get("message")
        self._take(completion, {**choice, "delta": _numbered(message if isinstance(message, dict) else {})})
        return self._end()

    def push(self, chunk: Json) -> bytes:
        """The events that say what a chunk adds."""
        self._begin()
        self._take(chunk, _first(chunk))
        return self._events.take()

    def finish(self) -> bytes:
        """The last events: ``response.completed``, or ``response.incomplete`` where the answer was cut off."""
        self._begin()
        response = self._end()
        self._events.emit(f"response.{response['status']}", response=response)
        return self._events.take()

    def fail(self, error: ApiError) -> bytes:
        """The last event of a stream that breaks off: ``response.failed``."""
        self._begin()
        self._output.abandon()
        self._events.emit("response.failed", response=self._response("failed", error=_failure(error)))
        return self._events.take()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for kind in ("response.created", "response.in_progress"):
                self._events.emit(kind, response=self._response("in_progress"))

    def _take(self, source: Json, choice: Json) -> None:
        if isinstance(source.get("usage"), dict):
            self._usage = source["usage"]
        if isinstance(choice.get("finish_reason"), str):
            self._reason = choice["finish_reason"]
        if isinstance(choice.get("delta"), dict):
            self._add(choice["delta"], _entries(choice))

    def _add(self, delta: Json, entries: list[Json]) -> None:
        # Servers have not agreed on what to call it.
        self._output.say(REASONING, _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")))
        content = _text(delta.get("content"))
        self._output.say(TEXT, content, entries)
        if not content:
            self._output.score(entries)
        self._output.say(REFUSAL, _text(delta.get("refusal")))
        for call in _objects(delta.get("tool_calls")):
            index, function = call.get("index"), call.get("function")
            named = function if isinstance(function, dict) else {}
            number = index if isinstance(index, int) else None
            self._output.call(number, _text(call.get("id")), _text(named.get("name")), _text(named.get("arguments")))

    def _end(self) -> Json:
        cut = _CUT.get(self._reason or "")
        status = "incomplete" if cut else "completed"
        self._output.close(status)
        return self._response(status, incomplete_details={"reason": cut} if cut else None)

    def _response(self, status: str, **fields: Any) -> Json:
        usage = None if self._usage is None else _usage(self._usage)
        return {**self._head, "status": status, "output": self._output.to_json(), "usage": usage, **fields}


def _head(body: Json, id_: str, created: int) -> Json:
    """What does not change about a response; settings as the request has them, ``null`` where it has none."""
    text = body.get("text") or {}
    reasoning = body.get("reasoning") or {}
    return {
        "id": id_,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": body.get("model"),
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "service_tier": "default",
        "store": False,
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": _tools(body),
        "top_logprobs": body.get("top_logprobs") or 0,
        "truncation": "disabled",
        "usage": None,
        "metadata": body.get("metadata") or {},
        **{key: body.get(key) for key in _ECHOED},
    }


def _tools(body: Json) -> list[Json]:
    """The functions, with all their fields; what was passed over is not there."""
    absent = {"description": None, "parameters": None, "strict": None}
    found, _ = tools.functions(Fields(body))
    return [{"type": "function", **absent, **tool["function"]} for tool in found]


def _first(source: Json) -> Json:
    """The first choice; nothing of those that no client of this dialect can ask for."""
    return next((each for each in _objects(source.get("choices")) if not each.get("index")), {})


def _numbered(message: Json) -> Json:
    calls = [{**call, "index": index} for index, call in enumerate(_objects(message.get("tool_calls")))]
    return {**message, "tool_calls": calls}


def _objects(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Text, also where a server has it in parts."""
    if isinstance(value, str):
        return value
    return "".join(part["text"] for part in _objects(value) if isinstance(part.get("text"), str))


def _entries(choice: Json) -> list[Json]:
    logprobs = choice.get("logprobs")
    return [_entry(each) for each in _objects(logprobs.get("content"))] if isinstance(logprobs, dict) else []


def _entry(given: Json) -> Json:
    return {**_scored(given), "top_logprobs": [_scored(each) for each in _objects(given.get("top_logprobs"))]}


def _scored(given: Json) -> Json:
    logprob, raw = given.get("logprob"), given.get("bytes")
    return {
        "token": _text(given.get("token")),
        "logprob": logprob if isinstance(logprob, int | float) else LEAST_LOGPROB,
        "bytes": raw if isinstance(raw, list) else [],
    }


def _usage(given: Json) -> Json:
    """The counts of a chat under this dialect's names."""
    prompt, answer = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": _count(given.get("prompt_tokens_details"), "cached_tokens"),
            "cache_write_tokens": _count(given.get("prompt_tokens_details"), "cache_write_tokens"),
        },
        "output_tokens": answer,
        "output_tokens_details": {
            "reasoning_tokens": _count(given.get("completion_tokens_details"), "reasoning_tokens")
        },
        "total_tokens": prompt + answer,
    }


def _count(counts: Any, key: str) -> int:
    found = counts.get(key) if isinstance(counts, dict) else None
    return found if type(found) is int and 0 <= found <= _MOST else 0


def _failure(error: ApiError) -> Json:
    """The ``error`` of a response that failed, with one of the few codes that there are for it."""
    code = "server_error" if error.status >= _FAULT_OF_OURS else "invalid_prompt"
    return {"code": "rate_limit_exceeded" if error.status == _TOO_MANY else code, "message": error.message}
