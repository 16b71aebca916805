"""What a request may use, set aside before it is sent, and what it does use, booked as it goes to its client."""

from collections.abc import Callable
from typing import Final

from attrs import define, evolve, field

from config import Cost
from helexa.cortex.access.auth import Key
from helexa.cortex.exchange.asks import MOST, Terms, ask_of, prices_of, terms_of
from helexa.cortex.exchange.dialects import COUNT_TOKENS, Asked
from helexa.cortex.ledger.limits import Payer
from helexa.cortex.ledger.ports import Ask, Charge, Ledger
from helexa.cortex.routing.fleet import Fleet
from helexa.web.asgi import Headers
from helexa.wire.errors import ApiError
from helexa.wire.meter import Allowance, Totals

_MOST_SURPLUS: Final = 4096
_MOST_TERMS: Final = 1024


@define(eq=False)
class Tab:
    """What one request has set aside, until it is settled.

    Attributes:
        ask: what was asked for.
        charge: what there is of it.
    """

    _metering: "Metering"
    _payer: Payer
    _model: str
    ask: Ask
    charge: Charge

    @property
    def allowance(self) -> Allowance | None:
        """What a neuron has to keep to; ``None``: no budget limits it."""
        total, output = self.charge.total, self.charge.output
        if total is None and output is None:
            return None
        return Allowance(MOST if total is None else total, MOST if output is None else output)

    def sent(self, node: str, cost: Cost) -> None:
        """It is sent there, where tokens are accounted at this cost."""
        self.charge.sent(node, prices_of(cost))

    def deliver(self, totals: Totals) -> None:
        """So much of it will have been delivered with the next write."""
        self.charge.deliver(*totals)

    async def enlarge(self, prompt: int) -> None:
        """A neuron has counted the prompt, and it is longer than was set aside: set aside what it takes, if there is.

        Raises:
            ApiError: there is not, or its length was known before.
        """
        if not self.charge.full or prompt <= self.ask.prompt:
            raise self.charge.refusal()
        self._metering.learn(self._model, prompt - self.ask.prompt)
        self.ask = evolve(self.ask, prompt=prompt)
        self.charge.abandon()
        self.charge = await self._metering.ledger.reserve(self._payer, self.ask)

    def refusal(self) -> ApiError:
        """Why it cannot be served with what there is."""
        return self.charge.refusal()

    def settle(self, delivered: Totals | None = None) -> None:
        """Book what was delivered, if it was not told before so much as ``delivered``; and give back the rest."""
        self.charge.settle(delivered)


@define(eq=False)
class Metering:
    """Opens tabs, for the requests that bear a key.

    Attributes:
        ledger: keeps the budgets.
        payer: who pays for the requests of a key.
    """

    ledger: Ledger
    payer: Callable[[Key], Payer]
    _surplus: dict[str, int] = field(factory=dict)
    _fleet: Fleet | None = None
    _terms: dict[str, Terms] = field(factory=dict)

    def headers(self, key: Key) -> Headers:
        """What an answer tells of its key's budgets."""
        try:
            return self.ledger.headers(self.payer(key))
        except ApiError:  # nothing is known of its account yet, which is why it is refused
            return []

    async def open(self, key: Key, asked: Asked, fleet: Fleet) -> Tab | None:
        """Set aside what a request may use; ``None`` for one that uses no tokens.

        Raises:
            ApiError: it is more than there is, see ``Ledger.reserve``.
        """
        if asked.dialect.path == COUNT_TOKENS:
            return None
        payer, terms = self.payer(key), self._of(fleet, asked.name)
        ask = ask_of(asked, terms, self._surplus.get(terms.model, 0))
        return Tab(self, payer, terms.model, ask, await self.ledger.reserve(payer, ask))

    def _of(self, fleet: Fleet, name: str) -> Terms:
        """Looked up once for each name, until anything in the fleet changes, which makes it another value."""
        if fleet is not self._fleet or len(self._terms) >= _MOST_TERMS:
            self._fleet = fleet
            self._terms.clear()
        found = self._terms.get(name)
        if found is None:
            found = self._terms[name] = terms_of(fleet, name)
        return found

    def learn(self, model: str, surplus: int) -> None:
        """A model's template adds that many tokens more than any was thought to.

        Bounded, as a client can find text that its tokenizer makes longer, and is not to make others' requests dearer.
        """
        self._surplus[model] = min(_MOST_SURPLUS, self._surplus.get(model, 0) + surplus)
