"""Whether a model calls functions as it is told to: agents stand and fall with it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from attrs import field, frozen

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.measuring.session import CHAT, Answer, Refused, Session
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import TOTAL, VALID, at_least, share_of
from helexa.bench.scenarios.shapes import fits, parsed


def _function(name: str, description: str, **properties: Mapping[str, Any]) -> dict[str, Any]:
    shape = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": shape}}


TOOLS: Final = (
    _function(
        "get_weather",
        "The weather of a city.",
        city={"type": "string"},
        unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
    ),
    _function("set_timer", "Ring after some minutes.", minutes={"type": "integer"}),
    _function("switch_light", "Turn the light of a room on or off.", room={"type": "string"}, on={"type": "boolean"}),
)
CASES: Final = (
    ("What is the weather in Paris, in celsius?", "get_weather"),
    ("Ring in 12 minutes.", "set_timer"),
    ("Turn the light in the kitchen on.", "switch_light"),
    ("Is it warm in Lima today? In fahrenheit.", "get_weather"),
)
"""What is said, and what is to be called."""
_SCHEMAS: Final = {each["function"]["name"]: each["function"]["parameters"] for each in TOOLS}


@frozen
class Tools(Scenario):
    """Four requests that each ask for a call. A round is one sample.

    Attributes:
        output_tokens: that a call may take; one that is cut off is not valid.
    """

    name: ClassVar[str] = "tools"
    title: ClassVar[str] = "Tool calls"
    metrics: ClassVar[tuple[Metric, ...]] = (
        VALID,
        Metric("right", "calls of the right function", "", "higher"),
        TOTAL,
    )

    output_tokens: int = field(default=128, validator=at_least(16))

    def unfit(self, model: ModelFacts) -> str | None:
        """Its template knows no tools."""
        return "The model is not made for tool calls." if model.lacks("tool_call") else None

    async def prepare(self, session: Session) -> None:
        """Ask once: grammars are compiled at the first request."""
        await self._ask(session, CASES[0][0])

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask for every call."""
        answers = [(await self._ask(session, text), wanted) for text, wanted in CASES]
        called = [(valid_call(answer.data), wanted) for answer, wanted in answers]
        found = {
            "valid": sum(name is not None for name, _ in called) / len(CASES),
            "right": sum(name == wanted for name, wanted in called) / len(CASES),
            "total": share_of([answer.seconds for answer, _ in answers], 0.5),
        }
        return [session.sample(round, found)]

    async def _ask(self, session: Session, text: str) -> Answer:
        body = {
            "messages": [{"role": "user", "content": text}],
            "tools": list(TOOLS),
            "tool_choice": "required",
            "max_tokens": self.output_tokens,
            "temperature": 0,
        }
        try:
            return await session.answer(CHAT, body)
        except Refused as error:
            if error.unable:
                raise Skipped(f"The server takes no such tools: {error}") from None
            raise


def valid_call(answer: Mapping[str, Any]) -> str | None:
    """The name of the one function that an answer calls; ``None``: it calls none, or not as that wants. Pure."""
    match answer:
        case {"choices": [{"message": {"tool_calls": [{"function": {"name": str(name), "arguments": arguments}}]}}]}:
            return name if name in _SCHEMAS and fits(parsed(arguments), _SCHEMAS[name]) else None
    return None
