"""What a scenario asks through: one model of one target, its prompts, and the count of what is in flight."""

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from time import monotonic, time
from typing import Any, Self

from attrs import define, field, frozen

from helexa.bench.client.exchanges import Exchange, TargetError, one_line
from helexa.bench.client.http import Client, refusal
from helexa.bench.measuring import dialect, prompts, timing
from helexa.bench.measuring.facts import ModelFacts
from helexa.bench.measuring.prompts import Bag, Count
from helexa.bench.measuring.timing import Timing
from helexa.bench.records import Sample

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
WINDOW_SECONDS = 1.0
LONGEST = 500
"""Characters of why something failed."""
_UNABLE = (400, 404, 405, 422, 501)
_COUNT_TOKENS = 1
"""A prompt is counted by having it answered this shortly, where the server cannot just count."""


@define(slots=False, eq=False)  # slots and BaseException.__traceback__ do not mix
class Refused(TargetError):  # noqa: N818 - one of its kind, and called as its code is
    """An HTTP error.

    Attributes:
        status: of it.
    """

    status: int

    @property
    def unable(self) -> bool:
        """Whether the server says that it cannot do such a thing, rather than not now, or not for us."""
        return self.status in _UNABLE


@define(eq=False)
class Flight:
    """How many requests of ours are in flight.

    Attributes:
        count: now.
    """

    count: int = 0
    _clock: Callable[[], float] = monotonic
    _left: deque[tuple[float, int]] = field(factory=deque)
    """How many there were, and when one of them ended."""

    def __enter__(self) -> Self:
        self.count += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.append((self._clock(), self.count))
        self.count -= 1
        self._forget()

    def peak(self) -> int:
        """The most at a time within the last second."""
        self._forget()
        return max((self.count, *(count for _, count in self._left)))

    def _forget(self) -> None:
        while self._left and self._left[0][0] < self._clock() - WINDOW_SECONDS:
            self._left.popleft()


@define(eq=False)
class Host:
    """What sessions of one target share.

    Attributes:
        client: to ask it with.
        flight: of everything that is being measured.
        fields: how it wants requests to be put.
        bags: prompts that were brought to their length, by model and by what was counted.
        counts: whether it counts tokens without answering; ``None``: not tried.
    """

    client: Client
    flight: Flight
    fields: dialect.Fields = field(factory=dialect.Fields)
    bags: dict[tuple[str, str, int], Bag] = field(factory=dict)
    counts: bool | None = None


@define(eq=False)
class Session:
    """Asks one model of one target.

    Attributes:
        model: which, and what is known of it.
        host: its target.
        seed: makes prompts of this run differ from those of any other.
        tokens: that answers have had since `begin`.
    """

    model: ModelFacts
    host: Host
    seed: str
    tokens: int = 0
    _began: float = 0.0

    def begin(self) -> None:
        """A round begins."""
        self.tokens = 0
        self.mark()

    def mark(self) -> None:
        """The next sample begins."""
        self._began = time()

    def random(self, *key: object) -> Random:
        """Randomness that belongs to a key, e.g. a round: the same key draws the same, within this run."""
        return Random(repr((self.seed, *key)))  # noqa: S311 - reproducible is the point

    def sample(self, round: int, values: Mapping[str, float | None], error: str | None = None) -> Sample:  # noqa: A002
        """What a round has found out; values that are ``None`` are left out. It began at the last `mark`."""
        known = {} if error else {name: float(value) for name, value in values.items() if value is not None}
        return Sample(round, self._began, known, None if error is None else one_line(error, LONGEST))

    async def bag(self, tokens: int) -> Bag:
        """The words of chat prompts of so many tokens.

        Raises:
            TargetError: see `prompts.calibrate`.
        """
        return await self.bag_for("chat", tokens, self._chat_tokens)

    async def bag_for(self, kind: str, tokens: int, count: Count) -> Bag:
        """The same by another count. ``kind`` tells counts apart: what was found once is not looked for again."""
        key = (self.model.id, kind, tokens)
        if key not in self.host.bags:
            self.host.bags[key] = await prompts.calibrate(tokens, count)
        return self.host.bags[key]

    async def chat(
        self, text: str, tokens: int, *, prompt_tokens: int | None = None, since: float | None = None
    ) -> Timing:
        """Have a prompt answered, streamed, as nearly as the server allows with exactly so many tokens.

        Args:
            text: the user's message.
            tokens: of the answer.
            prompt_tokens: what the prompt was brought to; an answer that counts otherwise is not believed.
            since: when it should have been asked (``perf_counter``); ``None``: now.

        Raises:
            TargetError: there is no such answer, or it cannot be believed.
        """
        body = {**self._chat_body(text, tokens), "stream": True, "stream_options": {"include_usage": True}}
        exchange = await self.ask(CHAT, body)
        found = timing.read(exchange, max_tokens=tokens, prompt_tokens=prompt_tokens, since=since)
        self.tokens += found.tokens
        return found

    async def answer(self, path: str, body: Mapping[str, Any]) -> "Answer":
        """Have a request answered as a whole; ``model`` is put in.

        Raises:
            TargetError: there is no such answer.
        """
        exchange = await self.ask(path, body)
        data = object_of(exchange)
        if isinstance(usage := data.get("usage"), dict) and isinstance(count := usage.get("completion_tokens"), int):
            self.tokens += count
        return Answer(exchange, data)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Exchange:
        """Send a request; one that is refused for a field that not every server knows is sent once more without it.

        Raises:
            TargetError: as the client's; ``refused`` for an HTTP error.
        """
        body = {"model": self.model.id, **body}
        while True:
            exchange = await self._post(path, self.host.fields.put(body))
            if exchange.ok:
                return exchange
            refused = refusal(exchange)
            if not self.host.fields.learn(body, refused.message):
                raise Refused(refused.code, refused.message, exchange.status)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Exchange:
        with self.host.flight:
            return await self.host.client.post(path, body)

    def _chat_body(self, text: str, tokens: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        return {"messages": messages, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}

    async def _chat_tokens(self, text: str) -> int:
        """The tokens of a chat request with this text; counted without an answer if that goes: long ones take long."""
        if self.host.counts is not False:
            found = await self._tokenized(text)
            self.host.counts = found is not None
            if found is not None:
                return found
        answer = await self.answer(CHAT, self._chat_body(text, _COUNT_TOKENS))
        return timing.usage_of([answer.data]).prompt

    async def _tokenized(self, text: str) -> int | None:
        body = {"model": self.model.id, "messages": [{"role": "user", "content": text}]}
        exchange = await self.host.client.post("/tokenize", body)
        if not exchange.ok:
            return None
        found = exchange.json()
        count = found.get("count") if isinstance(found, dict) else None
        return count if isinstance(count, int) and count > 0 else None


def object_of(exchange: Exchange) -> dict[str, Any]:
    """An answer's JSON object.

    Raises:
        TargetError: ``protocol``; it is none.
    """
    found = exchange.json()
    if not isinstance(found, dict):
        raise TargetError("protocol", "The answer is no JSON object.")
    return found


@frozen(eq=False)
class Answer:
    """A whole answer.

    Attributes:
        exchange: how it came.
        data: its JSON object.
    """

    exchange: Exchange
    data: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """From the request to the end."""
        return self.exchange.ended_at - self.exchange.sent_at
