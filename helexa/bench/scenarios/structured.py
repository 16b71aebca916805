"""Whether answers have the shape that was asked for, and what that costs."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from attrs import field, frozen

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.measuring.session import CHAT, Answer, Refused, Session
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import TOTAL, VALID, at_least, no_text, share_of
from helexa.bench.scenarios.shapes import fits, parsed

SCHEMA: Final = {
    "type": "object",
    "properties": {
        "fruit": {"type": "string", "enum": ["apple", "pear", "plum", "fig"]},
        "count": {"type": "integer"},
        "ripe": {"type": "boolean"},
        "for": {"type": "string", "enum": ["breakfast", "lunch", "supper"]},
    },
    "required": ["fruit", "count", "ripe", "for"],
    "additionalProperties": False,
}
"""No free text: a small model may never end it, and that would be measured instead."""
CASES: Final = (
    "I bought three ripe pears for breakfast. Put that down as JSON.",
    "There are 12 plums for supper, and they are still hard. Put that down as JSON.",
    "One fig is left; it is soft, and just right for lunch. Put that down as JSON.",
)


@frozen
class Structured(Scenario):
    """Three requests for JSON of a schema. A round is one sample.

    Attributes:
        output_tokens: that an answer may take; one that is cut off is not valid.
    """

    name: ClassVar[str] = "structured"
    title: ClassVar[str] = "Structured output"
    metrics: ClassVar[tuple[Metric, ...]] = (VALID, TOTAL)

    output_tokens: int = field(default=96, validator=at_least(32))

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text."""
        return no_text(model)

    async def prepare(self, session: Session) -> None:
        """Ask once: the grammar is compiled at the first request."""
        await self._ask(session, CASES[0])

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask for every case."""
        answers = [await self._ask(session, text) for text in CASES]
        found = {
            "valid": sum(is_valid(answer.data) for answer in answers) / len(CASES),
            "total": share_of([answer.seconds for answer in answers], 0.5),
        }
        return [session.sample(round, found)]

    async def _ask(self, session: Session, text: str) -> Answer:
        shape = {"name": "note", "schema": SCHEMA, "strict": True}
        body = {
            "messages": [{"role": "user", "content": text}],
            "response_format": {"type": "json_schema", "json_schema": shape},
            "max_tokens": self.output_tokens,
            "temperature": 0,
        }
        try:
            return await session.answer(CHAT, body)
        except Refused as error:
            if error.unable:
                raise Skipped(f"The server takes no such schema: {error}") from None
            raise


def is_valid(answer: Mapping[str, Any]) -> bool:
    """Whether an answer's text is JSON of the schema. Pure."""
    match answer:
        case {"choices": [{"message": {"content": str(text)}}]}:
            return fits(parsed(text), SCHEMA)
    return False
