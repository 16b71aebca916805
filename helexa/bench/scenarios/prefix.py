"""A long beginning that several requests share, as of agents and documents: what finding it again is worth."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import field, frozen

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import Scenario
from helexa.bench.measuring.session import Session
from helexa.bench.measuring.timing import Timing
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import above_zero, at_least, no_text, share_of


@frozen
class Prefix(Scenario):
    """A new beginning in every round: asked once cold, then some times warm, with other ends. A round is one sample.

    Attributes:
        prompt_tokens: of each prompt.
        share: of its words that all of the round have in common, at its beginning.
        warm_requests: after the first.
        output_tokens: of each answer.
    """

    name: ClassVar[str] = "prefix"
    title: ClassVar[str] = "Shared prefix"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ttft_cold", "time to first token, cold", "s", "lower", primary=True),
        Metric("ttft_warm", "time to first token, warm", "s", "lower", primary=True),
        Metric("speedup", "cold to warm", "", "higher"),
        Metric("cached", "prompt tokens found in the cache", "", "higher"),
    )

    prompt_tokens: int = field(default=1024, validator=at_least(64))
    share: float = field(default=0.9, validator=above_zero(1.0))
    warm_requests: int = field(default=3, validator=at_least(1))
    output_tokens: int = field(default=4, validator=at_least(1))

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text, or has not the room."""
        return no_text(model) or model.short_of(self.prompt_tokens + self.output_tokens)

    async def prepare(self, session: Session) -> None:
        """Bring the prompt to its length, and go through one round."""
        await self._ask(session, "warm")

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask for the first time, then again."""
        cold, *warm = await self._ask(session, round)
        return [session.sample(round, values(cold, warm))]

    async def _ask(self, session: Session, key: object) -> list[Timing]:
        bag = await session.bag(self.prompt_tokens)
        prompts = bag.sharing(session.random(key), self.share, 1 + self.warm_requests)
        return [await session.chat(prompt, self.output_tokens, prompt_tokens=bag.tokens) for prompt in prompts]


def values(cold: Timing, warm: Sequence[Timing]) -> dict[str, float | None]:
    """What a round has found out. Pure."""
    again = share_of([each.ttft for each in warm], 0.5)
    found = [each.cached_tokens / each.prompt_tokens for each in warm if each.cached_tokens is not None]
    return {
        "ttft_cold": cold.ttft,
        "ttft_warm": again,
        "speedup": cold.ttft / again if again else None,
        "cached": share_of(found, 0.5),
    }
