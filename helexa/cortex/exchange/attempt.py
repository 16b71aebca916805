"""One attempt: a request sent to one target, and what comes back passed on, translated where need be.

As long as nothing was sent to the client a failure is ``Failed``, and another attempt may do better. Afterwards it is
an ``ApiError``, which becomes the end of the stream.
"""

from contextlib import suppress

import trio
from attrs import field, frozen

from config import Cost
from helexa.cortex.exchange.answer import Answer, Plain
from helexa.cortex.exchange.dialects import COUNT_TOKENS, Asked
from helexa.cortex.exchange.failures import Failed, Target, broken, passed, refused, told
from helexa.cortex.exchange.kinds import Way
from helexa.cortex.exchange.relays import Relay
from helexa.cortex.exchange.tally import Source, Tally, about, of_answer
from helexa.cortex.exchange.upstream import BrokenError, Pool, Response, UpstreamError, split_url
from helexa.cortex.telemetry.tracing import Call
from helexa.wire import meter
from helexa.wire.errors import ApiError

MAX_ANSWER_BYTES = 64 * 2**20
MAX_EVENT_BYTES = 16 * 2**20
_STREAMS = (b"text/event-stream", b"application/x-ndjson")
_OK, _REDIRECT, _TOO_MANY = 200, 300, 429
_EXCEEDED = meter.EXCEEDED.encode()
_DRAIN_SECONDS = 1.0
_FREE = Cost()


class OverdrawnError(Exception):
    """A neuron has counted the prompt, and what was set aside does not suffice.

    Attributes:
        prompt: its tokens.
    """

    def __init__(self, prompt: int) -> None:
        super().__init__(prompt)
        self.prompt = prompt


class UsageRefusedError(Exception):
    """A provider does not know how to tell what a stream has used, and takes being asked for an error."""


@frozen
class Attempt:
    """What is sent where, and who is answered.

    Attributes:
        target: who is asked.
        way: how to get there and back.
        asked: the client's request.
        answer: what the client gets.
        cost: what tokens are accounted at there.
    """

    target: Target
    way: Way
    asked: Asked
    answer: Answer
    cost: Cost = field(default=_FREE)

    async def run(self, pool: Pool) -> None:
        """Send the request, and the client its answer.

        Raises:
            Failed: nothing was sent to the client.
            ApiError: the stream broke after it had begun, or the request itself is at fault.
            OverdrawnError: likewise nothing was sent.
            UsageRefusedError: likewise nothing was sent.
        """
        body = self.way.body(self.asked, self.target.model, as_checked=self.target.as_checked)
        self._note()
        target = self.target
        try:
            with self.answer.trace.attempt(target.name, target.base_url, target.model, self.way.kind.name) as call:
                await self._exchange(pool, body, call)
        except ApiError as error:
            raise (error if self.answer.started else told(self.target, error)) from error
        except (UpstreamError, ValueError) as error:
            failed = broken(self.target, error)
            raise (failed.answer if self.answer.started else failed) from error  # type: ignore[misc]

    def _note(self) -> None:
        answer = self.answer
        answer.attempts += 1
        answer.seen.sent(self.target.name)
        if answer.tab is not None:
            answer.tab.sent(self.target.name, self.cost)
        answer.node, answer.relay, answer.totals = self.target.name, None, None
        answer.warnings = self.way.warnings(self.asked)

    async def _exchange(self, pool: Pool, body: bytes, call: Call) -> None:
        target = self.target
        origin, prefix = split_url(target.base_url)
        headers = [*target.headers, *call.headers]
        upstream = pool.to(origin, local=target.local)
        response = await upstream.post(prefix + self.way.path, headers, body, target.patience)
        try:
            call.answered(response.status)
            await self._deliver(response)
        finally:
            await response.aclose()

    async def _deliver(self, response: Response) -> None:
        if (response.header(b"content-encoding") or b"identity").lower() != b"identity":
            raise ValueError("it answers compressed, although it was asked not to")
        if response.status >= _REDIRECT:
            await self._refuse(response)
        elif (response.header(b"content-type") or b"").lower().startswith(_STREAMS):
            await self._stream(response)
        else:
            data = await response.read_all(MAX_ANSWER_BYTES)
            body = self.way.whole(self.asked, data)
            self._count(response, data)
            await self.answer.whole(Plain(_OK, body, passed(response.header)))

    def _count(self, response: Response, data: bytes) -> None:
        """What an answer in one piece has used. A node is believed, others' headers are not."""
        if self.asked.dialect.path == COUNT_TOKENS:
            return
        told = meter.read_usage(response.header(meter.USAGE)) if self.target.local else None
        found = (told, False) if told is not None else of_answer(data, about(len(self.asked.raw)))
        self.answer.totals, self.answer.estimated = found

    def _source(self, response: Response) -> Source:
        """What counts a stream."""
        metered = self.target.local and response.header(meter.HEADER) == meter.ON
        return meter.Reader() if metered else Tally(about(len(self.asked.raw)))

    async def _refuse(self, response: Response) -> None:
        body = await response.read_all(MAX_ANSWER_BYTES)
        self._refuse_for_us(response, body)
        found = refused(self.target, self.way, response.status, response.header, body)
        if isinstance(found, Failed):
            raise found
        await self.answer.give(found)

    def _refuse_for_us(self, response: Response, body: bytes) -> None:
        """Of what is refused, find what was ours to ask for, and not the client's."""
        if self.target.local and response.status == _TOO_MANY and _EXCEEDED in body:
            told = meter.read_usage(response.header(meter.USAGE))
            raise OverdrawnError(0 if told is None else told[0])
        if self.way.refuses_usage(self.asked, response.status, body):
            raise UsageRefusedError

    async def _stream(self, response: Response) -> None:
        relay = self.answer.relay = self.way.relay(self.asked)
        source = self._source(response)
        await self._pump(response, relay, source)
        rest = b"" if relay.complete else source.finish()
        last = (relay.push(rest) if rest else b"") + relay.finish()
        self._passed(source)
        if relay.complete:
            await self.answer.write(last)
            await _drain(response)
            last = b""
        await self.answer.end(last)

    def _passed(self, source: Source) -> None:
        """What was read up to here is sent next: so what it has used is, too."""
        self.answer.totals, self.answer.estimated = source.totals, source.estimated

    async def _pump(self, response: Response, relay: Relay, source: Source) -> None:
        """Each read is one write, so a client slower than the model gets fewer, larger ones."""
        held = 0
        while not relay.complete and (data := await response.read()):
            events = relay.push(source.push(data))
            held = 0 if events else held + len(data)
            if held > MAX_EVENT_BYTES:
                raise BrokenError(f"it sent an event longer than {MAX_EVENT_BYTES} bytes")
            if events:
                self._passed(source)
                await self.answer.write(events)


async def _drain(response: Response) -> None:
    """Read the end of a body that has said all, so that its connection can serve again; it is not waited for long."""
    with suppress(UpstreamError), trio.move_on_after(_DRAIN_SECONDS):
        while await response.read():
            pass
