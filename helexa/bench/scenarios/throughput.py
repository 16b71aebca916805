"""So many users at a time, each asking again as soon as there is an answer: a closed loop."""

from collections.abc import Sequence
from typing import ClassVar

import trio
from attrs import field, frozen

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.prompts import Bag
from helexa.bench.measuring.scenario import WARM_TOKENS, Scenario
from helexa.bench.measuring.session import Session
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios import load
from helexa.bench.scenarios.common import above_zero, at_least, no_text


@frozen
class Throughput(Scenario):
    """One level of load; a sweep is several of these. A round is one sample.

    Attributes:
        clients: that ask at a time.
        prompt_tokens: of each prompt.
        output_tokens: of each answer.
        requests: of each client in a round, one after the other.
        ttft_target: seconds to the first token, and
        tpot_target: seconds per further token, that a request may take to count for the goodput.
    """

    name: ClassVar[str] = "throughput"
    title: ClassVar[str] = "Throughput"
    metrics: ClassVar[tuple[Metric, ...]] = (
        load.RATE,
        load.REQUESTS,
        load.GOODPUT,
        load.TTFT_P50,
        load.TTFT_P99,
        load.TPOT_P50,
        load.FAILED,
    )

    clients: int = field(default=8, validator=at_least(1))
    prompt_tokens: int = field(default=128, validator=at_least(16))
    output_tokens: int = field(default=64, validator=at_least(2))
    requests: int = field(default=2, validator=at_least(1))
    ttft_target: float = field(default=1.0, validator=above_zero())
    tpot_target: float = field(default=0.1, validator=above_zero())

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text, or has not the room."""
        return no_text(model) or model.short_of(self.prompt_tokens + self.output_tokens)

    async def prepare(self, session: Session) -> None:
        """Bring the prompts to their length, and have as many answered at a time: batches of a size may be compiled."""
        bag = await session.bag(self.prompt_tokens)
        results = await at_once(session, bag, self.clients, WARM_TOKENS)
        if why := load.why_failed(results):
            raise TargetError("refused", why)

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Have all clients ask."""
        bag = await session.bag(self.prompt_tokens)
        results: list[load.Result] = []

        async def ask(client: int) -> None:
            for number in range(self.requests):
                key = (round, client, number)
                results.append(await result_of(session, bag, self.output_tokens, key))

        async with trio.open_nursery() as nursery:
            for client in range(self.clients):
                nursery.start_soon(ask, client)
        return [level(session, round, results, load.Expected(self.ttft_target, self.tpot_target))]


async def at_once(session: Session, bag: Bag, clients: int, tokens: int) -> list[load.Result]:
    """So many requests at a time, one from each client."""
    results: list[load.Result] = []

    async def ask(client: int) -> None:
        results.append(await result_of(session, bag, tokens, ("warm", client)))

    async with trio.open_nursery() as nursery:
        for client in range(clients):
            nursery.start_soon(ask, client)
    return results


async def result_of(session: Session, bag: Bag, tokens: int, key: object, since: float | None = None) -> load.Result:
    """One request under load: that it fails is part of what the load does."""
    try:
        return await session.chat(bag.prompt(session.random(key)), tokens, prompt_tokens=bag.tokens, since=since)
    except TargetError as error:
        return str(error)


def level(session: Session, round_: int, results: Sequence[load.Result], expected: load.Expected) -> Sample:
    """The sample of a level of load; failed if no request went well."""
    if why := load.why_failed(results):
        return session.sample(round_, {}, why)
    return session.sample(round_, load.values(results, expected))
