"""What the gateway's request path needs from whoever keeps the ledger."""

from typing import Protocol

from attrs import field, frozen

from helexa.cortex.ledger.limits import Payer, Prices
from helexa.wire.errors import ApiError
from helexa.wire.meter import Totals


@frozen
class Ask:
    """The most that a request may use, as far as that is known before it is sent.

    Attributes:
        request_id: names it in the record.
        route: its path.
        model: the name that it asks for.
        prompt: prompt tokens at most.
        output: completion tokens at most, over all choices.
        limited: whether the client itself has said how much ``output`` it wants; less would not be what it asked for.
            Otherwise ``output`` is cut down to what the budgets leave.
        prices: of the dearest place that it may be sent to.
    """

    request_id: str
    route: str
    model: str
    prompt: int
    output: int
    limited: bool
    prices: Prices = field(default=Prices())


class Charge(Protocol):
    """What one request has set aside, from its reservation until it is settled.

    What it says survives the death of the process: a charge that was open then is settled by the next process with
    what was last told.

    Attributes:
        total: tokens, prompt and completion, that it may use; ``None``: no budget limits it.
        output: completion tokens, over all choices, that it may use; ``None`` likewise.
        full: whether all that was asked for was set aside. If not, whoever serves it has to keep to ``total`` and
            ``output``, and to say so if the prompt alone is longer.
    """

    total: int | None
    output: int | None
    full: bool

    def sent(self, node: str, prices: Prices) -> None:
        """It is sent to a node, or to ``provider:NAME``, at these prices: it counts as one request now.

        Raises:
            ApiError: 503; that cannot be kept safe.
        """

    def deliver(self, prompt: int, completion: int, cached: int) -> None:
        """So much of it will have been delivered with the next write; totals so far. Called before that write."""

    def refusal(self) -> ApiError:
        """Why it cannot be served with what was set aside."""

    def abandon(self) -> None:
        """Whoever it was sent to has not served it: give all of it back, and count nothing. It is over then."""

    def settle(self, delivered: Totals | None = None) -> None:
        """Book what was delivered, and give back the rest. Later calls have no effect.

        Args:
            delivered: as for ``deliver``, where it is known only now; ``None``: what that was told last.
        """


class Ledger(Protocol):
    """Who keeps the budgets. ``None`` in place of a charge: nobody's."""

    async def reserve(self, payer: Payer, ask: Ask) -> Charge:
        """Set aside what a request may use; it is the caller's to settle.

        Returns without a switch to other tasks where the budgets at hand suffice.

        Raises:
            ApiError: 429 ``insufficient_quota``, a balance is used up; 429 ``rate_limit_exceeded`` with the seconds
                until enough of a rolling window is free again; 503, the database has to be asked and does not answer.
        """

    def headers(self, payer: Payer) -> list[tuple[bytes, bytes]]:
        """``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` of the tightest limits, where there are any."""
