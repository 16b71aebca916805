"""Conversations with tools: which to call, with what, what to make of the result, and when to leave them alone."""

import json
from collections.abc import Sequence

from attrs import frozen

from helexa.tiny.corpus.draw import Draw, words
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.invented import invented, sibling
from helexa.tiny.corpus.lexicon import CITIES, COLOURS, NAMES, any_word, fresh_word, proper, several
from helexa.tiny.corpus.shapes import Message, Tool
from helexa.tiny.corpus.toolbox import ANSWERED_ANYWAY, FAMILIES
from helexa.tiny.corpus.toolspec import Family, Named, Style, Value

_KEYS = words(
    """
    temperature condition status price name city count total result answer id time date humidity wind rate amount
    currency message title color size level score speed distance duration state error value unit location summary
    """
)
_STATES = (
    "sunny",
    "cloudy",
    "rainy",
    "done",
    "ok",
    "open",
    "closed",
    "sent",
    "created",
    "saved",
    "empty",
    "ready",
    "warm",
)


@frozen
class Request:
    """A request for a tool and the call that it asks for."""

    tool: Named
    user: str
    arguments: dict[str, Value]

    @property
    def call(self) -> Message:
        """The call as ``{"name", "arguments"}``."""
        return {"name": self.tool.name, "arguments": self.arguments}

    @property
    def thought(self) -> str:
        """Words for choosing this call."""
        given = ", ".join(f"{name} {written(value)}" for name, value in self.arguments.items())
        return f"The tool {self.tool.name} fits" + (f": {given}." if given else ".")


def request(draw: Draw, family: Family) -> Request:
    """Ask for what a tool does, mentioning some of its parameters."""
    tool = Named.drawn(draw, family)
    ask = draw.phrase(family.asks)
    values = {key: slot.value(draw) for key, slot in family.slots.items() if f"{{{key}}}" in ask}
    spoken = {key: written(value) for key, value in values.items()}
    user = dress(draw, ask, closing=False, recase="/" not in family.topic, **spoken)
    return Request(tool, user, {tool.params[key]: value for key, value in values.items()})


def family(draw: Draw, *, new: bool) -> Family:
    """Return a well-known kind of tool, or one that nobody has."""
    return invented(draw) if new else draw.pick(FAMILIES)


def offer(draw: Draw, wanted: Sequence[Named], others: int) -> tuple[Tool, ...]:
    """Return the wanted tools among others that the request does not fit, in any order."""
    tools = list(wanted)
    topics = {tool.family.topic for tool in wanted}
    for _ in range(others):
        other = _distractor(draw, wanted)
        if other.topic not in topics:
            topics.add(other.topic)
            tools.append(Named.drawn(draw, other))
    unique = list({tool.name: tool for tool in reversed(tools)}.values())
    draw.rng.shuffle(unique)
    style = Style.drawn(draw)
    return tuple(tool.spec(draw, style) for tool in unique)


def unrelated(draw: Draw, topics: frozenset[str]) -> tuple[Tool, ...]:
    """Return one to three tools, none of them on these topics."""
    style, wanted = Style.drawn(draw), draw.pick((1, 1, 2, 3))
    found: dict[str, Named] = {}
    while len(found) < wanted:
        candidate = Named.drawn(draw, family(draw, new=draw.chance(0.4)))
        if candidate.family.topic not in topics:
            found[candidate.name] = candidate
    return tuple(tool.spec(draw, style) for tool in found.values())


def orphan(draw: Draw) -> tuple[str, frozenset[str]]:
    """Return a request for a tool that is not there, and the topics to leave out."""
    while (wanted := draw.pick(FAMILIES)).topic in ANSWERED_ANYWAY:
        pass
    return request(draw, wanted).user, frozenset({wanted.topic})


def call_text(calls: Sequence[Message]) -> str:
    """Write calls as the model does."""
    return "\n".join(f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls)


def call_message(calls: Sequence[Message]) -> Message:
    """Return the assistant message that carries these calls."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": call} for call in calls],
    }


def outcome(draw: Draw) -> tuple[str, str]:
    """Return what a tool answers and how the model passes it on."""
    return draw.odds((0.25, _text_outcome), (0.07, _list_outcome), (0.1, _measure_outcome), (0.58, _object_outcome))(
        draw
    )


def answer(spoken: Sequence[str]) -> str:
    """Pass tool results on to the user."""
    return f"The tool says: {'; '.join(spoken)}."


def written(value: Value) -> str:
    """Write a value as it stands in JSON, without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _distractor(draw: Draw, wanted: Sequence[Named]) -> Family:
    topic = wanted[0].family.topic
    if "/" in topic and draw.chance(0.25):
        return sibling(draw, wanted[0].family)
    return family(draw, new=draw.chance(0.4))


def _text_outcome(draw: Draw) -> tuple[str, str]:
    text = draw.pick((written(_value(draw)), several(draw, 1, 6)))
    return (f"{text}.", text) if draw.chance(0.3) else (text, text)


def _list_outcome(draw: Draw) -> tuple[str, str]:
    items = [any_word(draw) for _ in range(draw.number(1, 4))]
    return json.dumps(items), ", ".join(items)


def _measure_outcome(draw: Draw) -> tuple[str, str]:
    unit = draw.pick(("°C", " degrees", "%", " km", " C", "°"))
    text = f"{draw.number(-20, 120)}{unit}, {draw.pick(_STATES)}"
    return text, text


def _object_outcome(draw: Draw) -> tuple[str, str]:
    fields = {_key(draw): _value(draw) for _ in range(draw.pick((1, 1, 2, 2, 3)))}
    return json.dumps(fields, ensure_ascii=False), ", ".join(f"{key} {written(value)}" for key, value in fields.items())


def _key(draw: Draw) -> str:
    return draw.odds(
        (0.2, fresh_word(draw, 1, 2)),
        (0.15, f"{draw.pick(_KEYS)}_{draw.pick(_KEYS)}"),
        (0.65, draw.pick(_KEYS)),
    )


def _value(draw: Draw) -> Value:
    choices: tuple[tuple[float, Value], ...] = (
        (0.24, draw.number(-20, 120)),
        (0.16, draw.number(0, 99_999)),
        (0.1, draw.number(0, 99) + draw.pick((0.5, 0.25, 0.1, 0.75))),
        (0.05, draw.chance(0.5)),
        (0.2, draw.pick(_STATES + COLOURS)),
        (0.13, proper(draw, NAMES + CITIES)),
        (0.12, several(draw, 1, 3)),
    )
    return draw.odds(*choices)
