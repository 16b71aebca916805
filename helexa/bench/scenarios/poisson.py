"""Users who come when they come, whether or not others have been answered: an open loop."""

from collections.abc import Sequence
from itertools import accumulate
from random import Random
from time import perf_counter
from typing import ClassVar

import trio
from attrs import evolve, field, frozen

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import WARM_TOKENS, Scenario
from helexa.bench.measuring.session import Session
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios import load
from helexa.bench.scenarios.common import above_zero, at_least, no_text
from helexa.bench.scenarios.throughput import at_once, level, result_of


@frozen
class Poisson(Scenario):
    """Requests at random times, on average so many in a second. A round is one sample.

    The times are those of a Poisson process, the same in every run: builds are compared under the same load. Latencies
    count from when a request was due: a client that falls behind must not make the server look better.

    Attributes:
        rate: requests per second, on average.
        requests: in a round.
        prompt_tokens: of each prompt.
        output_tokens: of each answer.
        ttft_target: seconds to the first token, and
        tpot_target: seconds per further token, that a request may take to count for the goodput.
    """

    name: ClassVar[str] = "poisson"
    title: ClassVar[str] = "Random arrivals"
    metrics: ClassVar[tuple[Metric, ...]] = (
        evolve(load.GOODPUT, primary=True),
        evolve(load.TTFT_P50, primary=True),
        load.TTFT_P99,
        load.TPOT_P50,
        evolve(load.RATE, primary=False),
        load.REQUESTS,
        load.FAILED,
    )

    rate: float = field(default=2.0, validator=above_zero(10_000))
    requests: int = field(default=16, validator=at_least(2))
    prompt_tokens: int = field(default=128, validator=at_least(16))
    output_tokens: int = field(default=64, validator=at_least(2))
    ttft_target: float = field(default=1.0, validator=above_zero())
    tpot_target: float = field(default=0.1, validator=above_zero())

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text, or has not the room."""
        return no_text(model) or model.short_of(self.prompt_tokens + self.output_tokens)

    async def prepare(self, session: Session) -> None:
        """Bring the prompts to their length, and have two answered."""
        results = await at_once(session, await session.bag(self.prompt_tokens), 2, WARM_TOKENS)
        if why := load.why_failed(results):
            raise TargetError("refused", why)

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask when it is time."""
        bag = await session.bag(self.prompt_tokens)
        results: list[load.Result] = []

        async def ask(number: int, due: float) -> None:
            await trio.sleep(max(0.0, due - perf_counter()))
            results.append(await result_of(session, bag, self.output_tokens, (round, number), due))

        begin = perf_counter()
        async with trio.open_nursery() as nursery:
            for number, offset in enumerate(arrivals(self.rate, self.requests, round)):
                nursery.start_soon(ask, number, begin + offset)
        return [level(session, round, results, load.Expected(self.ttft_target, self.tpot_target))]


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """When requests come, in seconds from the first, which comes at once. Pure.

    Args:
        rate: on average, per second.
        count: of requests.
        seed: one pattern for each.
    """
    random = Random(f"{rate}/{count}/{seed}")  # noqa: S311 - reproducible is the point
    return list(accumulate((random.expovariate(rate) for _ in range(count - 1)), initial=0.0))
