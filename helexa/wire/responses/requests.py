"""A request for a response, read strictly into a chat.

Source: OpenAI API reference, "Create a model response". Nothing is stored here: what would need it is refused, and what
merely asks for it is answered with a warning. Parameters that change nothing here are passed over.
"""

from typing import Any

from helexa.wire import errors
from helexa.wire.chat import EFFORTS
from helexa.wire.decoding import MAX_TOP_LOGPROBS
from helexa.wire.dialect import Json, Translated
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields
from helexa.wire.responses import items, tools

LOGPROBS = "message.output_text.logprobs"
_MOST_TOKENS = 2**31 - 1
_FORMATS = ("text", "json_object", "json_schema")
_CARRIED = (
    "user",
    "seed",
    "stop",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "chat_template_kwargs",
)
"""Parameters of chats that clients add to responses, too; whoever answers the chat checks them."""


def to_chat(body: Json) -> Translated:
    """The chat that a request for a response comes down to.

    Raises:
        ApiError: naming the first field that is missing, wrong or not supported.
    """
    fields = Fields(body)
    model = fields.text("model")
    warnings = stateless(body)
    messages, passed_over = items.messages(fields)
    functions, ignored = tools.functions(fields)
    _check_echoed(fields)
    chat = {
        "model": model,
        "messages": messages,
        **tools.chosen(fields, functions),
        **_controls(fields),
        **{key: body[key] for key in _CARRIED if body.get(key) is not None},
    }
    return Translated(chat, (*warnings, *passed_over, *ignored, *_truncation(fields)))


def _check_echoed(fields: Fields) -> None:
    """Check what no model sees and the answer repeats."""
    fields.mapping("metadata", {})
    fields.integer("max_tool_calls", 1, _MOST_TOKENS, None)
    for key in ("prompt_cache_key", "safety_identifier", "user"):
        fields.text(key, None)


def stateless(body: Json) -> tuple[str, ...]:
    """Refuse what needs state that is not kept here; a sentence for what merely asks for some.

    For requests that are passed on as they are, too: their answers' ids are ours, and nobody can look one up.

    Raises:
        ApiError: ``previous_response_id_not_supported``, or naming the field that is not supported.
    """
    fields = Fields(body)
    if fields.has("previous_response_id"):
        raise _no_previous_response()
    for key, instead in (("conversation", "the whole conversation as 'input'"), ("prompt", "it as 'instructions'")):
        if fields.has(key):
            raise errors.unsupported(key, f"nothing is stored here; send {instead}")
    if fields.flag("background"):
        raise errors.unsupported("background", "nothing is stored here; a response has to be waited for")
    if not fields.flag("store", default=True):
        return ()
    return ("This endpoint is stateless: the response is not stored, whatever 'store' says.",)


def _no_previous_response() -> ApiError:
    return ApiError(
        400,
        "Responses are not stored here, so there is none to continue. Send the whole conversation as 'input', not "
        "'previous_response_id'.",
        "invalid_request_error",
        "previous_response_id_not_supported",
        "previous_response_id",
    )


def _truncation(fields: Fields) -> tuple[str, ...]:
    if fields.choice("truncation", ("auto", "disabled"), "disabled") == "disabled":
        return ()
    return ("'truncation' is passed over: input that is too long is refused, not shortened.",)


def _controls(fields: Fields) -> Json:
    """How to answer, under a chat's names; only what the request says."""
    found = {
        "temperature": fields.number("temperature", 0, 2, None),
        "top_p": fields.positive("top_p", 1, None),
        # The older name, "max_tokens", is refused by the models that this dialect was made for.
        "max_completion_tokens": fields.integer("max_output_tokens", 1, _MOST_TOKENS, None),
        "reasoning_effort": _effort(fields),
        **_text(fields),
        **_logprobs(fields),
        **_stream(fields),
    }
    return {key: value for key, value in found.items() if value is not None}


def _effort(fields: Fields) -> Any:
    return fields.nested("reasoning").choice("effort", EFFORTS, None) if fields.has("reasoning") else None


def _text(fields: Fields) -> Json:
    if not fields.has("text"):
        return {}
    text = fields.nested("text")
    verbosity = text.choice("verbosity", ("low", "medium", "high"), None)
    return {"verbosity": verbosity, "response_format": _format(text) if text.has("format") else None}


def _format(text: Fields) -> Json | None:
    given = text.nested("format")
    kind = given.choice("type", _FORMATS)
    if kind != "json_schema":
        return None if kind == "text" else {"type": kind}
    schema = {
        "name": given.text("name"),
        "description": given.text("description", None),
        "schema": given.mapping("schema"),
        "strict": given.flag("strict") if given.has("strict") else None,
    }
    return {"type": kind, "json_schema": {key: value for key, value in schema.items() if value is not None}}


def _logprobs(fields: Fields) -> Json:
    top = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS, 0)
    if not top and LOGPROBS not in included(fields):
        return {}
    return {"logprobs": True, "top_logprobs": top or None}


def included(fields: Fields) -> list[str]:
    """What the answer is to include beyond the usual.

    Raises:
        ApiError: it is not a list of strings.
    """
    given = fields.data.get("include")
    found = [] if given is None else given
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise fields.wrong("include", "a list of strings")
    return found


def _stream(fields: Fields) -> Json:
    return {"stream": True, "stream_options": {"include_usage": True}} if fields.flag("stream") else {}
