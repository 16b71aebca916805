"""A request's charge while it is open: what it may use, and what is told of it as it is served."""

from collections.abc import Callable
from typing import Final, Protocol

from helexa.cortex.ledger import refusals
from helexa.cortex.ledger.book import Held
from helexa.cortex.ledger.limits import Amounts, Payer, Prices
from helexa.cortex.ledger.slots import Slot
from helexa.wire.errors import ApiError

_MICROSECONDS: Final = 10**6


class Owner(Protocol):
    """Who books charges."""

    def settled(self, charge: "OpenCharge") -> None:
        """A charge is over; called once."""


class OpenCharge:
    """Implements ``ports.Charge``.

    Args:
        owner: hears when it is over.
        payer: whose it is.
        held: what was set aside.
        slot: open, and this charge's alone.
        clock: the Unix time.
    """

    __slots__ = ("_clock", "_over", "_owner", "_used", "full", "held", "output", "payer", "slot", "total")

    def __init__(self, owner: Owner, payer: Payer, held: Held, slot: Slot, clock: Callable[[], float]) -> None:
        limited = held.by_tokens
        self.total: int | None = held.share.total if limited else None
        self.output: int | None = held.share.output if limited else None
        self.full = held.share.full
        self.payer = payer
        self.held = held
        self.slot = slot
        self._owner = owner
        self._clock = clock
        self._over = False
        self._used: Amounts | None = None

    def sent(self, node: str, prices: Prices) -> None:
        """See ``ports.Charge``."""
        if not self._over:
            self.slot.sent(node, prices)

    def deliver(self, prompt: int, completion: int, cached: int) -> None:
        """See ``ports.Charge``."""
        if not self._over:
            self.slot.deliver(prompt, completion, cached, microseconds(self._clock()))

    def refusal(self) -> ApiError:
        """See ``ports.Charge``."""
        return refusals.refusal_of(self.payer, self.held, self._clock())

    def settle(self) -> None:
        """See ``ports.Charge``."""
        if not self._over:
            self._over = True
            self.slot.settle(microseconds(self._clock()))
            self._owner.settled(self)

    def abandon(self) -> None:
        """See ``ports.Charge``."""
        if not self._over:
            self._over = True
            self.slot.unsent()
            self._owner.settled(self)

    @property
    def used(self) -> Amounts:
        """What is to be booked."""
        if self._used is None:
            prompt, completion = self.slot.tokens
            self._used = Amounts(prompt + completion, 1, self.slot.cost)
        return self._used


def microseconds(seconds: float) -> int:
    """Of Unix time."""
    return int(seconds * _MICROSECONDS)
