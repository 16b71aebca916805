"""Texts made into vectors, as for a search: how many tokens of them in a second."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import field, frozen

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.prompts import Bag
from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.measuring.session import EMBEDDINGS, Answer, Refused, Session
from helexa.bench.measuring.timing import usage_of
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import TOTAL, at_least


@frozen
class Embeddings(Scenario):
    """One request with several texts. A round is one sample.

    Attributes:
        texts: in the request.
        tokens: of each.
    """

    name: ClassVar[str] = "embeddings"
    title: ClassVar[str] = "Embeddings"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("input", "input", "tokens/s", "higher", primary=True),
        Metric("texts", "texts", "texts/s", "higher"),
        TOTAL,
    )
    asks: ClassVar[str] = "embeddings"

    texts: int = field(default=16, validator=at_least(1))
    tokens: int = field(default=128, validator=at_least(4))

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no embeddings, or has not the room."""
        return "The model makes no embeddings." if model.lacks("embeddings") else model.short_of(self.tokens)

    async def warm(self, session: Session) -> None:
        """Have one text made into a vector."""
        await _ask(session, ["Good morning."])

    async def prepare(self, session: Session) -> None:
        """Bring the texts to their length, and go through one request."""
        await _ask(session, await self._draw(session, "warm"))

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask once."""
        answer = await _ask(session, await self._draw(session, round))
        tokens = usage_of([answer.data]).prompt
        found = {"input": tokens / answer.seconds, "texts": self.texts / answer.seconds, "total": answer.seconds}
        return [session.sample(round, found)]

    async def _draw(self, session: Session, key: object) -> list[str]:
        bag = await self._bag(session)
        return [bag.prompt(session.random(key, number)) for number in range(self.texts)]

    async def _bag(self, session: Session) -> Bag:
        async def count(text: str) -> int:
            return usage_of([(await _ask(session, [text])).data]).prompt

        return await session.bag_for("embeddings", self.tokens, count)


async def _ask(session: Session, texts: Sequence[str]) -> Answer:
    try:
        answer = await session.answer(EMBEDDINGS, {"input": list(texts)})
    except Refused as error:
        if error.unable:
            raise Skipped(f"The server makes no embeddings of it: {error}") from None
        raise
    check(answer.data, len(texts))
    return answer


def check(answer: Mapping[str, Any], texts: int) -> None:
    """See that there is a vector for every text. Pure.

    Raises:
        TargetError: ``lying``; there is not, or it is no vector.
    """
    data = answer.get("data")
    vectors = [each.get("embedding") for each in data] if isinstance(data, list) else []
    if len(vectors) != texts:
        raise TargetError("lying", f"It answers {texts} texts with {len(vectors)} vectors.")
    lengths = {len(vector) for vector in vectors if isinstance(vector, list)}
    if len(lengths) != 1 or not all(map(_is_vector, vectors)):
        raise TargetError("lying", "What it answers are no vectors of one length, of numbers that are not all 0.")


def _is_vector(found: object) -> bool:
    if not isinstance(found, list) or not all(isinstance(each, int | float) for each in found):
        return False
    return any(found) and all(map(math.isfinite, found))
