"""A request's charge while it is open: what it may use, and what is told of it as it is served."""

from collections.abc import Callable
from typing import Final, Protocol

from helexa.cortex.ledger import refusals
from helexa.cortex.ledger.book import Held
from helexa.cortex.ledger.limits import Amounts, Payer, Prices
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.rows import Row
from helexa.cortex.ledger.slots import Identity, Slot
from helexa.wire.errors import ApiError
from helexa.wire.meter import Totals

_MICROSECONDS: Final = 10**6


class Owner(Protocol):
    """Who books charges."""

    def opened(self, charge: "OpenCharge", node: str, prices: Prices) -> tuple[Slot, Identity]:
        """A charge is to be sent to a node, at these prices: a slot for it, open, and what it says; called once.

        Raises:
            ApiError: 503; there is none.
        """

    def settled(self, charge: "OpenCharge") -> None:
        """A charge is over; called once."""


class OpenCharge:
    """Implements ``ports.Charge``.

    Args:
        owner: hears when it is over.
        payer: whose it is.
        ask: what for.
        held: what was set aside.
        clock: the Unix time.

    Attributes:
        slot: where it is told of, this charge's alone; ``None`` until it was sent, as until then nothing is used.
    """

    __slots__ = (
        "_clock",
        "_identity",
        "_over",
        "_owner",
        "ask",
        "full",
        "held",
        "output",
        "payer",
        "slot",
        "total",
        "used",
    )

    def __init__(self, owner: Owner, payer: Payer, ask: Ask, held: Held, clock: Callable[[], float]) -> None:
        limited = held.by_tokens
        self.total: int | None = held.share.total if limited else None
        self.output: int | None = held.share.output if limited else None
        self.full = held.share.full
        self.payer = payer
        self.ask = ask
        self.held = held
        self.slot: Slot | None = None
        self._identity: Identity | None = None
        self.used: Amounts | None = None
        """What is to be booked, once it is over; ``None``: nothing."""
        self._owner = owner
        self._clock = clock
        self._over = False

    def sent(self, node: str, prices: Prices) -> None:
        """See ``ports.Charge``."""
        if self._over:
            return
        if self.slot is None:
            self.slot, self._identity = self._owner.opened(self, node, prices)
        else:
            self.slot.sent(node, prices)

    def deliver(self, prompt: int, completion: int, cached: int) -> None:
        """See ``ports.Charge``."""
        if self.slot is not None and not self._over:
            self.slot.deliver(prompt, completion, cached, microseconds(self._clock()))

    def refusal(self) -> ApiError:
        """See ``ports.Charge``."""
        return refusals.refusal_of(self.payer, self.held, self._clock())

    def row(self) -> Row:
        """What is to be booked; of one that was sent."""
        assert self.slot is not None
        assert self._identity is not None
        return self.slot.row_of(self._identity)

    def settle(self, delivered: Totals | None = None) -> None:
        """See ``ports.Charge``."""
        if not self._over:
            self._over = True
            if self.slot is not None:
                prompt, completion, cost = self.slot.settle(delivered, microseconds(self._clock()))
                self.used = Amounts(prompt + completion, 1, cost)
            self._owner.settled(self)

    def abandon(self) -> None:
        """See ``ports.Charge``."""
        if not self._over:
            self._over = True
            if self.slot is not None:
                self.slot.unsent()
            self._owner.settled(self)


def microseconds(seconds: float) -> int:
    """Of Unix time."""
    return int(seconds * _MICROSECONDS)
