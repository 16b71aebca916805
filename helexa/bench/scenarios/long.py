"""A context that is nearly full: how fast the prompt is read, and how fast the model writes behind it."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import evolve, field, frozen

from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.measuring.session import Session
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import DECODE, ITL_P50, TOTAL, TTFT, above_zero, at_least, latencies, no_text

NO_CONTEXT = "The target does not tell how long the model's context is."
SHORTEST = 256
"""Tokens of a prompt that may be called long."""


@frozen
class Long(Scenario):
    """One request that fills the context. A round is one sample.

    Attributes:
        fill: how much of the context prompt and answer take.
        most: tokens of the prompt at most, however long the context is.
        output_tokens: of the answer.
    """

    name: ClassVar[str] = "long"
    title: ClassVar[str] = "Long context"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("prefill", "prefill", "tokens/s", "higher", primary=True),
        evolve(TTFT, primary=False),
        DECODE,
        ITL_P50,
        TOTAL,
    )

    fill: float = field(default=0.9, validator=above_zero(1.0))
    most: int = field(default=32_768, validator=at_least(SHORTEST))
    output_tokens: int = field(default=32, validator=at_least(2))

    def prompt_tokens(self, context: int) -> int:
        """Tokens of the prompt for a model with such a context."""
        return min(self.most, int(self.fill * context) - self.output_tokens)

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text, its context is not known, or it is no long one."""
        if why := no_text(model):
            return why
        if model.context is None:
            # A gateway does not know it of a model that is not loaded yet; then it is asked again afterwards.
            return None if model.status != "loaded" else NO_CONTEXT
        if self.prompt_tokens(model.context) < SHORTEST:
            return f"A context of {model.context:,} tokens is too short to be called long."
        return None

    async def prepare(self, session: Session) -> None:
        """Bring the prompt to its length, by the server's own count."""
        await session.bag(self._length(session))

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask once."""
        bag = await session.bag(self._length(session))
        prompt = bag.prompt(session.random(round))
        timing = await session.chat(prompt, self.output_tokens, prompt_tokens=bag.tokens)
        return [session.sample(round, {**latencies(timing), "prefill": timing.prompt_tokens / timing.ttft})]

    def _length(self, session: Session) -> int:
        if session.model.context is None:
            raise Skipped(NO_CONTEXT)
        return self.prompt_tokens(session.model.context)
