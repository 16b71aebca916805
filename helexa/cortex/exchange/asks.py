"""The most that a request may use, as far as its body and what is known of the fleet tell. Pure."""

from functools import lru_cache
from typing import Any, Final

from attrs import frozen

from config import Cost, Route
from helexa.cortex.exchange import outside
from helexa.cortex.exchange.dialects import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Asked
from helexa.cortex.exchange.outside import Outside
from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.routing.fleet import Fleet
from helexa.wire.completions import DEFAULT_TOKENS
from helexa.wire.dialect import Json
from helexa.wire.fleet import Limit

_TEMPLATE_TOKENS: Final = 512
"""What a chat template may add to a conversation beside what its JSON takes anyway. Otherwise a token has a byte."""
_DEFAULT_OUTPUT: Final = 8192
"""Tokens of an answer that neither its client nor the fleet knows a bound of."""
MOST: Final = 2**40
"""A client may ask for any number; this is more than anyone gets, and a database column holds what it costs."""
_LENGTHS: Final = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_completion_tokens", "max_tokens"),
    RESPONSES: ("max_output_tokens",),
    MESSAGES: ("max_tokens",),
}
_FREE: Final = Cost()

prices_of = lru_cache(maxsize=4096)(Prices.of)


@frozen
class Terms:
    """What holds for all requests for one name, as long as the fleet is as it is.

    Attributes:
        model: what the name stands for.
        prices: of the dearest place that they may be sent to.
        context: tokens of the longest context; ``None``: it is not known, or they may be sent outside.
        output: tokens that an answer may get where its client does not say: as any node that knows the model lets it.
    """

    model: str
    prices: Prices
    context: int | None
    output: int


def terms_of(fleet: Fleet, name: str) -> Terms:
    """What holds for requests for a name."""
    model, route, limits = fleet.resolve(name), _route(fleet, name), _limits(fleet, name)
    inside = prices_of(cost_of(fleet, model))
    return Terms(
        model,
        inside if route is None else inside.at_least(prices_of(route.cost)),
        max((each.context for each in limits), default=None) if route is None else None,
        min((each.output for each in limits), default=_DEFAULT_OUTPUT),
    )


def _limits(fleet: Fleet, name: str) -> list[Limit]:
    """What a model can take on the nodes that know it."""
    model = fleet.resolve(name)
    reports = [fleet.nodes[node].model(model) for node in fleet.placed.get(model, ()) if node in fleet.nodes]
    return [each.limit for each in reports if each is not None and each.limit is not None]


def _route(fleet: Fleet, name: str) -> Route | None:
    """The route by which a request for a model may leave the fleet."""
    found = outside.targets(fleet.topology, name, fleet.resolve(name)) if fleet.topology.routes else None
    return found.route if isinstance(found, Outside) else None


def cost_of(fleet: Fleet, model: str) -> Cost:
    """What a model of the fleet is accounted at; nothing where the catalogue does not say."""
    entry = fleet.catalogue.get(model)
    return _FREE if entry is None else entry.cost


def ask_of(asked: Asked, terms: Terms, surplus: int = 0) -> Ask:
    """The most that a request may use.

    Args:
        asked: the request, not checked yet beyond that it is an object and names a model.
        terms: of that model.
        surplus: prompt tokens that this model's template is known to add beyond what was thought possible.
    """
    body, path = asked.body, asked.dialect.path
    length = max([_count(body[name]) for name in _LENGTHS[path] if name in body], default=0)
    each = _default(body, path, terms) if length == 0 else min(length, terms.context or length)
    return Ask(
        asked.request_id,
        path,
        asked.name,
        len(asked.raw) + _TEMPLATE_TOKENS + surplus,
        min(MOST, each * _choices(body, path)),
        length > 0,
        terms.prices,
    )


def _count(value: Any) -> int:
    """A number of tokens or answers; 0 for what is none: whoever serves it refuses it, or does as it likes."""
    return min(value, MOST) if type(value) is int and value > 0 else 0


def _default(body: Json, path: str, terms: Terms) -> int:
    """How long an answer may get where its client does not say."""
    least = max(1, _count(body.get("min_tokens")))
    return max(least, DEFAULT_TOKENS if path == COMPLETIONS else terms.output)


def _choices(body: Json, path: str) -> int:
    """Answers to all prompts, those among them that a server makes only to pick the best."""
    if path == COMPLETIONS:
        prompt, prompts = body.get("prompt"), 1
        if isinstance(prompt, list) and not (prompt and isinstance(prompt[0], int)):
            prompts = max(1, len(prompt))
        return max(1, _count(body.get("n")), _count(body.get("best_of"))) * prompts
    return max(1, _count(body.get("n")), _count(body.get("best_of"))) if path == CHAT else 1
