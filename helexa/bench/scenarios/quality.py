"""How likely a model finds fixed texts: a build that is fast because it computes something else is caught here.

Source: the request is that of EleutherAI's lm-evaluation-harness for servers of completions: ``echo`` with
``logprobs`` gives the log-probability of every token of the prompt.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.measuring.session import COMPLETIONS, Refused, Session
from helexa.bench.measuring.timing import usage_of
from helexa.bench.records import Metric, Sample
from helexa.bench.scenarios.common import no_text
from helexa.bench.scenarios.passages import PASSAGES


@frozen
class Quality(Scenario):
    """The log-likelihood of the texts that come with helexa. A round is one sample; rounds of one build are all alike.

    Attributes:
        edition: of the texts. Whoever changes them raises it: other texts are another cell.
    """

    name: ClassVar[str] = "quality"
    title: ClassVar[str] = "Quality check"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("loglikelihood", "log-likelihood", "nats/token", "higher", primary=True),
        Metric("perplexity", "perplexity", "", "lower"),
    )
    asks: ClassVar[str] = "completions"

    edition: int = 1

    def unfit(self, model: ModelFacts) -> str | None:
        """It makes no text."""
        return no_text(model)

    async def warm(self, session: Session) -> None:
        """Ask for the log-likelihood of one text: servers that cannot tell it say so here."""
        await _logprobs(session, "Good morning. It has rained all night.")

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002 - as samples call it
        """Ask for every text."""
        found = [each for text in PASSAGES for each in await _logprobs(session, text)]
        mean = math.fsum(found) / len(found)
        return [session.sample(round, {"loglikelihood": mean, "perplexity": perplexity(mean)})]


def perplexity(mean: float) -> float | None:
    """Of a mean log-likelihood in nats; ``None``: no number holds it, as of a model that is broken. Pure."""
    try:
        return math.exp(-mean)
    except OverflowError:
        return None


async def _logprobs(session: Session, text: str) -> list[float]:
    """Of each token of a text but the first, in nats.

    Raises:
        TargetError: there is no such answer, or it cannot be.
        Skipped: the server does not tell.
    """
    body = {"prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    try:
        answer = await session.answer(COMPLETIONS, body)
    except Refused as error:
        if error.unable:
            raise Skipped(f"The server does not tell the log-likelihood of a prompt: {error}") from None
        raise
    return prompt_logprobs(answer.data)


def prompt_logprobs(answer: Mapping[str, Any]) -> list[float]:
    """The log-probabilities of a prompt's tokens in an answer that repeats the prompt; the first has none. Pure.

    Raises:
        TargetError: ``lying``; they are none.
        Skipped: the answer has none, though they were asked for.
    """
    match answer:
        case {"choices": [{"logprobs": {"token_logprobs": list(told)}}]}:
            # The token that had to be generated comes last; it is no part of the text.
            tokens = usage_of([answer]).prompt
        case _:
            raise Skipped("The server answers without the log-likelihood of the prompt.")
    found = told[1:tokens] if told and told[0] is None else told[:tokens]
    if not found or len(told) < tokens or not all(_is_logprob(each) for each in found):
        raise TargetError("lying", "What it gives as the log-probabilities of a prompt's tokens are none.")
    return found


def _is_logprob(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value <= 0
