"""Messages requests read as chats.

Source: Anthropic API reference, "Create a Message", "Count tokens in a Message". Parameters that change nothing here
(``metadata``, ``cache_control``, ``service_tier``, …) and unknown ones are passed over.
"""

from helexa.wire import errors
from helexa.wire.anthropic import billing, tools
from helexa.wire.anthropic.conversation import Notes, messages
from helexa.wire.decoding import MAX_STOP_LENGTH, MAX_STOPS
from helexa.wire.dialect import Json, Translated
from helexa.wire.fields import Fields

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_THINKING = ("enabled", "adaptive", "between_tools", "disabled")
_LEAST_BUDGET = 1024
_LOW, _MEDIUM = 4096, 16_384
"""Budgets of thought, in tokens, below which an effort is called low, and medium."""
_MAX_COUNT = 2**31 - 1


def to_chat(body: Json, *, strip_billing: bool, counting: bool = False) -> Translated:
    """Read a request.

    Args:
        body: the JSON object.
        strip_billing: take agents' billing headers out of the system prompt.
        counting: its tokens are to be counted, so it says nothing about the answer: not even ``max_tokens``.

    Raises:
        ApiError: naming the first field that is missing, wrong or not supported.
    """
    fields = Fields(billing.strip(body) if strip_billing else body)
    notes = Notes()
    model = fields.text("model")
    limits = {} if counting else _limits(fields)
    chat = {"model": model, "messages": messages(fields, notes), **tools.to_chat(fields, notes), **_thinking(fields)}
    return Translated({**chat, **limits, **_format(fields)}, notes.sentences())


def _limits(fields: Fields) -> Json:
    """How to pick tokens, when to stop, and whether to stream."""
    # OpenAI's reasoning models refuse the older `max_tokens`; those who know only that ignore the newer name.
    found: Json = {"max_completion_tokens": fields.integer("max_tokens", 1, _MAX_COUNT)}
    if fields.has("temperature"):
        found["temperature"] = fields.number("temperature", 0, 1)
    if fields.has("top_p"):
        found["top_p"] = fields.number("top_p", 0, 1)
    if fields.has("top_k"):
        found["top_k"] = fields.integer("top_k", 0, _MAX_COUNT)
    if fields.has("stop_sequences") and fields.data["stop_sequences"] != []:
        found["stop"] = fields.texts("stop_sequences", MAX_STOPS, MAX_STOP_LENGTH)
    if fields.flag("stream"):
        found |= {"stream": True, "stream_options": {"include_usage": True}}
    return found


def _thinking(fields: Fields) -> Json:
    """Whether to think, for templates that have a switch; how much, for models that have degrees."""
    given = fields.nested("thinking") if fields.has("thinking") else None
    kind = given.choice("type", _THINKING) if given else None
    effort = _effort(fields)
    if given is None or kind == "between_tools":
        return _efforts(effort)
    if kind == "disabled":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    if kind == "enabled":
        effort = effort or _effort_of(given.integer("budget_tokens", _LEAST_BUDGET, _MAX_COUNT))
    return {"chat_template_kwargs": {"enable_thinking": True}, **_efforts(effort)}


def _effort(fields: Fields) -> str | None:
    if not fields.has("output_config"):
        return None
    effort: str | None = fields.nested("output_config").choice("effort", EFFORTS, None)
    return effort


def _efforts(effort: str | None) -> Json:
    return {"reasoning_effort": effort} if effort else {}


def _effort_of(budget: int) -> str:
    return "low" if budget < _LOW else "medium" if budget < _MEDIUM else "high"


def _format(fields: Fields) -> Json:
    """The schema an answer has to match: within ``output_config``, or beside it as in the days of its beta."""
    config = fields.nested("output_config") if fields.has("output_config") else Fields({})
    holder, key = (config, "format") if config.has("format") else (fields, "output_format")
    if not holder.has(key):
        return {}
    given = holder.nested(key)
    if given.text("type") != "json_schema":
        raise errors.unsupported(given.name("type"), "expected 'json_schema'")
    schema = {"name": "answer", "schema": given.mapping("schema"), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
