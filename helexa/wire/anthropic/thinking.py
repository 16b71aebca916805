"""How long an Anthropic model's answer may be, and how much thought may go into it.

Source: Anthropic's documentation, "Extended thinking", "Adaptive thinking", "Effort". Models from Claude 4.6 on are
told an effort, and the newest of them refuse a budget; models before that, and those of other makers who speak
Messages, know only the budget.
"""

from helexa.wire.anthropic.models import EFFORT_SINCE, version
from helexa.wire.chat import EFFORTS
from helexa.wire.decoding import max_tokens
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_768}
_LEAST_BUDGET = 1024
_USUAL, _USUAL_ADAPTIVE = 8192, 32_768
"""Tokens of an answer where the client sets no bound, and Anthropic wants one: what every model of the kind allows."""


def limits(fields: Fields) -> Json:
    """``max_tokens``, and ``thinking`` and ``output_config`` where the chat says something about thought.

    Raises:
        ApiError: naming the field that is wrong.
    """
    most = max_tokens(fields)
    adaptive = version(fields.text("model")) >= EFFORT_SINCE
    usual = {"max_tokens": most or (_USUAL_ADAPTIVE if adaptive else _USUAL)}
    effort = _effort(fields)
    if effort == "none":
        return {**usual, "thinking": {"type": "disabled"}}
    if effort is None or _forces_a_call(fields):
        return usual
    return _adaptive(most, effort) if adaptive else _budgeted(most, effort, amid_calls=_is_amid_calls(fields))


def _effort(fields: Fields) -> str | None:
    """The effort asked for; ``None`` if nothing is said of thought. A mere switch asks for a usual one."""
    effort: str | None = fields.choice("reasoning_effort", EFFORTS, None)
    switch = Fields(fields.mapping("chat_template_kwargs", {}), "chat_template_kwargs")
    if effort or not switch.has("enable_thinking"):
        return effort
    return "medium" if switch.flag("enable_thinking") else "none"


def _forces_a_call(fields: Fields) -> bool:
    """A call that has to be made and thought exclude each other."""
    return fields.data.get("tool_choice") not in (None, "auto", "none")


def _is_amid_calls(fields: Fields) -> bool:
    """Whether a tool has just answered: then the thoughts that led to the call had to come along, with a signature."""
    return bool(fields.data["messages"][-1].get("role") == "tool")


def _adaptive(most: int | None, effort: str) -> Json:
    level = "low" if effort == "minimal" else effort
    thinking = {"thinking": {"type": "adaptive"}, "output_config": {"effort": level}}
    return {"max_tokens": most or _USUAL_ADAPTIVE, **thinking}


def _budgeted(most: int | None, effort: str, *, amid_calls: bool) -> Json:
    """Thought counts as part of the answer in both protocols, so a bound that is given leaves half of it for words."""
    budget = _BUDGETS[effort] if most is None else min(_BUDGETS[effort], most // 2)
    if amid_calls or budget < _LEAST_BUDGET:
        return {"max_tokens": most or _USUAL}
    return {"max_tokens": most or _USUAL + budget, "thinking": {"type": "enabled", "budget_tokens": budget}}
