"""What a request may use, set aside before it is sent, and what it does use, booked as it goes to its client."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from attrs import define, evolve, field

from config import Cost, Route
from helexa.cortex.access.auth import Key
from helexa.cortex.exchange import outside
from helexa.cortex.exchange.dialects import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES, Asked
from helexa.cortex.exchange.outside import Outside
from helexa.cortex.ledger.limits import Payer, Prices
from helexa.cortex.ledger.ports import Ask, Charge, Ledger
from helexa.cortex.routing.fleet import Fleet
from helexa.web.asgi import Headers
from helexa.wire.completions import DEFAULT_TOKENS
from helexa.wire.dialect import Json
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Limit
from helexa.wire.meter import Allowance, Totals

_TEMPLATE_TOKENS: Final = 512
"""What a chat template may add to a conversation beside what its JSON takes anyway. Otherwise a token has a byte."""
_MOST_SURPLUS: Final = 4096
_DEFAULT_OUTPUT: Final = 8192
"""Tokens of an answer that neither its client nor the fleet knows a bound of."""
_MOST: Final = 2**40
"""A client may ask for any number; this is more than anyone gets, and a database column holds what it costs."""
_LENGTHS: Final = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_completion_tokens", "max_tokens"),
    RESPONSES: ("max_output_tokens",),
    MESSAGES: ("max_tokens",),
}

prices_of = lru_cache(maxsize=4096)(Prices.of)


def ask_of(asked: Asked, fleet: Fleet, surplus: int = 0) -> Ask:
    """The most that a request may use.

    Args:
        asked: the request, not checked yet beyond that it is an object and names a model.
        fleet: knows how much its models can say, and what they cost.
        surplus: prompt tokens that this model's template is known to add beyond what was thought possible.
    """
    body, path = asked.body, asked.dialect.path
    route = _route(fleet, asked.name)
    length = max(_count(body.get(name)) for name in _LENGTHS[path])
    each = _bounded(fleet, asked.name, length, outside=route is not None) if length else _default(fleet, asked)
    inside = prices_of(cost_of(fleet, fleet.resolve(asked.name)))
    return Ask(
        request_id=asked.request_id,
        route=path,
        model=asked.name,
        prompt=len(asked.raw) + _TEMPLATE_TOKENS + surplus,
        output=min(_MOST, each * _choices(body, path)),
        limited=length > 0,
        prices=inside if route is None else inside.at_least(prices_of(route.cost)),
    )


def _count(value: Any) -> int:
    """A number of tokens or answers; 0 for what is none: whoever serves it refuses it, or does as it likes."""
    return min(value, _MOST) if type(value) is int and value > 0 else 0


def _choices(body: Json, path: str) -> int:
    """Answers to all prompts, those among them that a server makes only to pick the best."""
    if path not in (CHAT, COMPLETIONS):
        return 1
    prompt, prompts = body.get("prompt"), 1
    if path == COMPLETIONS and isinstance(prompt, list) and not (prompt and isinstance(prompt[0], int)):
        prompts = max(1, len(prompt))
    return max(1, _count(body.get("n")), _count(body.get("best_of"))) * prompts


def _default(fleet: Fleet, asked: Asked) -> int:
    """How long an answer may get where its client does not say: as any node that knows the model lets it."""
    least = max(1, _count(asked.body.get("min_tokens")))
    if asked.dialect.path == COMPLETIONS:
        return max(least, DEFAULT_TOKENS)
    return max(least, min((each.output for each in _limits(fleet, asked.name)), default=_DEFAULT_OUTPUT))


def _bounded(fleet: Fleet, name: str, length: int, *, outside: bool) -> int:
    """How long an answer may get where its client says: no longer than the context, where that is known."""
    contexts = [] if outside else [each.context for each in _limits(fleet, name)]
    return min(length, max(contexts)) if contexts else length


def _limits(fleet: Fleet, name: str) -> list[Limit]:
    """What a model can take on the nodes that know it."""
    model = fleet.resolve(name)
    reports = [fleet.nodes[node].model(model) for node in fleet.placed.get(model, ()) if node in fleet.nodes]
    return [each.limit for each in reports if each is not None and each.limit is not None]


def _route(fleet: Fleet, name: str) -> Route | None:
    """The route by which a request for a model may leave the fleet."""
    found = outside.targets(fleet.topology, name) if fleet.topology.routes else None
    return found.route if isinstance(found, Outside) else None


def cost_of(fleet: Fleet, model: str) -> Cost:
    """What a model of the fleet is accounted at; nothing where the catalogue does not say."""
    entry = fleet.catalogue.get(model)
    return _FREE if entry is None else entry.cost


_FREE: Final = Cost()


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
        return Allowance(_MOST if total is None else total, _MOST if output is None else output)

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

    def settle(self) -> None:
        """Book what was delivered, and give back the rest."""
        self.charge.settle()


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
        payer, model = self.payer(key), fleet.resolve(asked.name)
        ask = ask_of(asked, fleet, self._surplus.get(model, 0))
        return Tab(self, payer, model, ask, await self.ledger.reserve(payer, ask))

    def learn(self, model: str, surplus: int) -> None:
        """A model's template adds that many tokens more than any was thought to.

        Bounded, as a client can find text that its tokenizer makes longer, and is not to make others' requests dearer.
        """
        self._surplus[model] = min(_MOST_SURPLUS, self._surplus.get(model, 0) + surplus)
