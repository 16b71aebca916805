"""A chat as a request to Ollama."""

from helexa.wire import decoding, errors, structured
from helexa.wire.chat import EFFORTS
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields
from helexa.wire.ollama.messages import messages

_MOST = 2**31 - 1
_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_REFUSED = ("logit_bias", "stop_token_ids", "min_tokens")
"""What changes the answer, and what Ollama has no word for."""


def to_ollama(chat: Json) -> Json:
    """The body of ``POST /api/chat`` that a chat comes down to.

    ``parallel_tool_calls`` and the like, wishes that Ollama has no word for, are passed over.

    Raises:
        ApiError: naming the first field that is missing, wrong, or cannot be had from Ollama.
    """
    fields = Fields(chat)
    _refuse(fields)
    found = {
        "model": fields.text("model"),
        "messages": messages(fields),
        "stream": fields.flag("stream"),
        "tools": _tools(fields),
        "format": _format(fields),
        "think": _think(fields),
        "options": _options(fields),
        **_logprobs(fields),
    }
    return {key: value for key, value in found.items() if value is not None}


def _refuse(fields: Fields) -> None:
    for key in _REFUSED:
        if fields.data.get(key):
            raise errors.unsupported(key, "Ollama does not know it")
    if fields.integer("n", 1, decoding.MAX_CHOICES, 1) > 1:
        raise errors.unsupported("n", "Ollama gives one answer at a time")
    if fields.flag("ignore_eos"):
        raise errors.unsupported("ignore_eos", "Ollama does not know it")


def _tools(fields: Fields) -> list[Json] | None:
    """The tools; none of them where none may be called, which is all that Ollama can be told about calling."""
    wish = fields.data.get("tool_choice")
    if wish == "none":
        return None
    if wish is not None and wish != "auto":
        raise errors.unsupported("tool_choice", "Ollama cannot be made to call a tool; it knows 'auto' and 'none'")
    found: list[Json] = fields.objects("tools", [])
    for index, tool in enumerate(found):
        Fields(tool, f"tools[{index}]").nested("function").text("name")
    return found or None


def _format(fields: Fields) -> str | Json | None:
    wanted = structured.parse(fields)
    if wanted is None:
        return None
    if wanted.kind == "json_object":
        return "json"
    if wanted.kind != "json_schema":
        raise errors.unsupported(wanted.param, "Ollama follows JSON schemas only")
    schema: Json = wanted.value
    return schema


def _think(fields: Fields) -> bool | str | None:
    """Whether to think; ``None`` for as the model is made.

    Models that can think do so unless told not to, and Ollama refuses a request that tells any other to. Levels are
    known to one family only.
    """
    effort = fields.choice("reasoning_effort", EFFORTS, None)
    extra = Fields(fields.mapping("chat_template_kwargs", {}), "chat_template_kwargs")
    effort = extra.choice("reasoning_effort", EFFORTS, effort)
    if effort == "none" or not extra.flag("enable_thinking", default=True):
        return False
    return _LEVELS.get(effort) if "gpt-oss" in fields.text("model").lower() else None


def _options(fields: Fields) -> Json | None:
    found = {
        "num_predict": decoding.max_tokens(fields),
        "temperature": fields.number("temperature", 0, 2, None),
        "top_p": fields.positive("top_p", 1, None),
        "top_k": fields.integer("top_k", -1, _MOST, None),
        "min_p": fields.number("min_p", 0, 1, None),
        "seed": fields.integer("seed", -(2**63), 2**63 - 1, None),
        "presence_penalty": fields.number("presence_penalty", -2, 2, None),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2, None),
        "repeat_penalty": fields.positive("repetition_penalty", 10, None),
        "stop": list(decoding.stops(fields)) or None,
    }
    given = {key: value for key, value in found.items() if value is not None}
    return given or None


def _logprobs(fields: Fields) -> Json:
    if not fields.flag("logprobs"):
        return {}
    top = fields.integer("top_logprobs", 0, decoding.MAX_TOP_LOGPROBS, 0)
    return {"logprobs": True, "top_logprobs": top or None}
