"""A ledger that grants what a test says, and remembers all that it is told, in order."""

from typing import Any

import trio
from attrs import define, field
from gateways import DONE, EVENTS, PATH, REQUEST, Gateway, gateway_of, topology_of
from http_parts import SSE_HEAD, Call, Play, Script, chunk, plays, start_script

from config import Budget
from helexa.cortex.access.auth import KEY, Key
from helexa.cortex.exchange.metering import Metering
from helexa.cortex.ledger.limits import Payer, Prices
from helexa.cortex.ledger.ports import Ask
from helexa.web.asgi import Headers
from helexa.web.server import Scope
from helexa.wire import meter
from helexa.wire.errors import ApiError
from helexa.wire.meter import Totals

REMAINING = (b"x-ratelimit-remaining-tokens", b"77")


def refusal() -> ApiError:
    return ApiError(429, "The budget is used up.", "insufficient_quota", "insufficient_quota")


@define(eq=False)
class Booked:
    """Implements `ports.Charge`.

    Attributes:
        told: what was said of it, in order.
        open: whether it was not settled yet.
    """

    ask: Ask
    total: int | None = None
    output: int | None = None
    full: bool = True
    told: list[tuple[Any, ...]] = field(factory=list)
    open: bool = True

    def sent(self, node: str, prices: Prices) -> None:
        assert self.open
        self.told.append(("sent", node, prices))

    def deliver(self, prompt: int, completion: int, cached: int) -> None:
        assert self.open
        self.told.append(("deliver", prompt, completion, cached))

    def refusal(self) -> ApiError:
        return refusal()

    def abandon(self) -> None:
        assert self.open
        self.told.append(("abandoned",))
        self.open = False

    def settle(self, delivered: Totals | None = None) -> None:
        if self.open and delivered is not None:
            self.deliver(*delivered)
        self.open = False

    @property
    def delivered(self) -> tuple[int, ...]:
        """The last totals; nothing before the first."""
        return next((each[1:] for each in reversed(self.told) if each[0] == "deliver"), (0, 0, 0))

    @property
    def nodes(self) -> list[str]:
        return [each[1] for each in self.told if each[0] == "sent"]


@define(eq=False)
class FakeLedger:
    """Implements `ports.Ledger`.

    Attributes:
        grants: total, output and whether that is all, for each reservation in turn; the last goes on.
        error: raised instead of a reservation.
    """

    grants: tuple[tuple[int | None, int | None, bool], ...] = ((None, None, True),)
    error: ApiError | None = None
    charges: list[Booked] = field(factory=list)

    async def reserve(self, payer: Payer, ask: Ask) -> Booked:
        assert payer.name == "ci"
        if self.error is not None:
            raise self.error
        grant = self.grants[min(len(self.charges), len(self.grants) - 1)]
        self.charges.append(Booked(ask, *grant))
        return self.charges[-1]

    def headers(self, payer: Payer) -> Headers:
        assert payer.name == "ci"
        return [REMAINING]

    @property
    def only(self) -> Booked:
        """The one charge; it must be settled."""
        (found,) = self.charges
        assert not found.open
        return found


CI = Key("ci", "ci", frozenset({"inference"}), budgets=(Budget(tokens=1),))


def metering(ledger: FakeLedger) -> Metering:
    return Metering(ledger, lambda key: Payer(f"key:{key.name}", key.name, key.account))


def keyed(scope: Scope, key: Key = CI) -> Scope:
    return {**scope, KEY: key}


TOLD: list[Totals] = [(9, 0, 0), (9, 1, 0), (9, 2, 4), (9, 2, 4)]
METERED = [event + meter.comment(told) for event, told in zip(EVENTS, TOLD, strict=True)]
"""The golden stream, as a neuron sends it to a gateway."""
METERED_HEAD = SSE_HEAD[:-2] + b"x-helexa-meter: 1\r\n\r\n"
STREAMED = plays(METERED_HEAD + b"".join(chunk(each) for each in [*METERED, DONE, b""]))


async def booking(
    nursery: trio.Nursery, gateways: list[Gateway], ledger: FakeLedger, *scripted: Play, **settings: Any
) -> Script:
    """A gateway that books, in front of one scripted node, `a`."""
    script = await start_script(nursery, *scripted)
    gateways.append(gateway_of(topology_of({"a": script.url}, {}, **settings), metering=metering(ledger)))
    return script


def request(body: bytes = REQUEST, path: str = PATH, key: Key = CI) -> Call:
    call = Call.post(path, body)
    call.scope = keyed(call.scope, key)
    return call
