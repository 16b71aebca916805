"""One user and an idle model: how soon the first token comes, and how fast the others."""

from collections.abc import Sequence
from typing import ClassVar

from attrs import field, frozen

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import WARM_TOKENS, Scenario
from helexa.bench.measuring.session import Session
from helexa.bench.measuring.timing import Timing
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import DECODE, ITL_P50, ITL_P99, TOTAL, TTFT, at_least, latencies, no_text


@frozen
class Chat(Scenario):
    """Streamed chat completions, one after the other.

    Attributes:
        prompt_tokens: of each prompt, its template's among them.
        output_tokens: of each answer, where the server lets that be said.
        requests: in a round; each is a sample.
    """

    name: ClassVar[str] = "chat"
    title: ClassVar[str] = "Chat latency"
    metrics: ClassVar[tuple[Metric, ...]] = (TTFT, ITL_P50, ITL_P99, DECODE, TOTAL)

    prompt_tokens: int = field(default=128, validator=at_least(16))
    output_tokens: int = field(default=64, validator=at_least(2))
    requests: int = field(default=2, validator=at_least(1))

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text, or has not the room."""
        return no_text(model) or model.short_of(self.prompt_tokens + self.output_tokens)

    async def prepare(self, session: Session) -> None:
        """Bring the prompt to its length, and have one of that length answered: the first may compile something."""
        await self._ask(session, "warm", WARM_TOKENS)

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask so often; what fails is a failed sample, and ends the round."""
        samples: list[Sample] = []
        while len(samples) < self.requests and not (samples and samples[-1].error):
            samples.append(await self._sample(session, round, len(samples)))
        return samples

    async def _sample(self, session: Session, round_: int, number: int) -> Sample:
        session.mark()
        try:
            timing = await self._ask(session, (round_, number), self.output_tokens)
        except TargetError as error:
            return session.sample(round_, {}, str(error))
        return session.sample(round_, latencies(timing))

    async def _ask(self, session: Session, key: object, tokens: int) -> Timing:
        bag = await session.bag(self.prompt_tokens)
        return await session.chat(bag.prompt(session.random(key)), tokens, prompt_tokens=bag.tokens)
