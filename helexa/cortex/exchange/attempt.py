"""One attempt: a request sent to one target, and what comes back passed on, translated where need be.

As long as nothing was sent to the client a failure is ``Failed``, and another attempt may do better. Afterwards it is
an ``ApiError``, which becomes the end of the stream.
"""

from contextlib import suppress

import trio
from attrs import frozen

from helexa.cortex.exchange.answer import Answer, Plain
from helexa.cortex.exchange.dialects import Asked
from helexa.cortex.exchange.failures import Failed, Target, broken, passed, refused, told
from helexa.cortex.exchange.kinds import Way
from helexa.cortex.exchange.relays import Relay
from helexa.cortex.exchange.upstream import BrokenError, Pool, Response, UpstreamError, split_url
from helexa.wire.errors import ApiError

MAX_ANSWER_BYTES = 64 * 2**20
MAX_EVENT_BYTES = 16 * 2**20
_STREAMS = (b"text/event-stream", b"application/x-ndjson")
_OK, _REDIRECT = 200, 300
_DRAIN_SECONDS = 1.0


@frozen
class Attempt:
    """What is sent where, and who is answered.

    Attributes:
        target: who is asked.
        way: how to get there and back.
        asked: the client's request.
        answer: what the client gets.
    """

    target: Target
    way: Way
    asked: Asked
    answer: Answer

    async def run(self, pool: Pool) -> None:
        """Send the request, and the client its answer.

        Raises:
            Failed: nothing was sent to the client.
            ApiError: the stream broke after it had begun, or the request itself is at fault.
        """
        body = self.way.body(self.asked, self.target.model, as_checked=self.target.as_checked)
        self._note()
        try:
            await self._exchange(pool, body)
        except ApiError as error:
            raise (error if self.answer.started else told(self.target, error)) from error
        except (UpstreamError, ValueError) as error:
            failed = broken(self.target, error)
            raise (failed.answer if self.answer.started else failed) from error  # type: ignore[misc]

    def _note(self) -> None:
        answer = self.answer
        answer.attempts += 1
        answer.seen.sent(self.target.name)
        answer.node, answer.relay = self.target.name, None
        answer.warnings = self.way.warnings(self.asked)

    async def _exchange(self, pool: Pool, body: bytes) -> None:
        target = self.target
        origin, prefix = split_url(target.base_url)
        response = await pool.to(origin).post(prefix + self.way.path, target.headers, body, target.patience)
        try:
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
            body = self.way.whole(self.asked, await response.read_all(MAX_ANSWER_BYTES))
            await self.answer.whole(Plain(_OK, body, passed(response.header)))

    async def _refuse(self, response: Response) -> None:
        body = await response.read_all(MAX_ANSWER_BYTES)
        found = refused(self.target, self.way, response.status, response.header, body)
        if isinstance(found, Failed):
            raise found
        await self.answer.give(found)

    async def _stream(self, response: Response) -> None:
        relay = self.answer.relay = self.way.relay(self.asked)
        await self._pump(response, relay)
        last = relay.finish()
        if relay.complete:
            await self.answer.write(last)
            await _drain(response)
            last = b""
        await self.answer.end(last)

    async def _pump(self, response: Response, relay: Relay) -> None:
        """Each read is one write, so a client slower than the model gets fewer, larger ones."""
        held = 0
        while not relay.complete and (data := await response.read()):
            events = relay.push(data)
            held = 0 if events else held + len(data)
            if held > MAX_EVENT_BYTES:
                raise BrokenError(f"it sent an event longer than {MAX_EVENT_BYTES} bytes")
            await self.answer.write(events)


async def _drain(response: Response) -> None:
    """Read the end of a body that has said all, so that its connection can serve again; it is not waited for long."""
    with suppress(UpstreamError), trio.move_on_after(_DRAIN_SECONDS):
        while await response.read():
            pass
