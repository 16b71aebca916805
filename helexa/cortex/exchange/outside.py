"""Which providers outside the fleet may be asked for a model. Pure: a topology and a name in, a decision out."""

from collections.abc import Iterable
from itertools import takewhile

from attrs import frozen

from config import Provider, Route, Topology
from helexa.wire.errors import ApiError
from helexa.wire.patterns import matches


@frozen
class Outside:
    """Ask these providers, in order.

    Attributes:
        route: the topology's route that matched.
        providers: at least one.
        model: the name to ask them for.
    """

    route: Route
    providers: tuple[Provider, ...]
    model: str


@frozen
class Denied:
    """The topology forbids to send requests for this model there."""

    model: str
    route: Route


def targets(topology: Topology, name: str, model: str) -> Outside | Denied | None:
    """Decide where outside the fleet a request may go; ``None`` if no route is for it.

    The first route whose pattern matches decides, and no other is looked at. What it or a provider forbids is not sent
    on to the next provider either: the list ends there.

    Args:
        topology: the one in force.
        name: as the client asked.
        model: what that stands for. Patterns are held against it, so that an alias is no way around them.
    """
    route = next((route for route in topology.routes if matches(route.pattern, model)), None)
    if route is None:
        return None
    if _forbids(route.deny, model, name):
        return Denied(name, route)
    sent = route.model or model
    named = (topology.provider(each) for each in route.providers)
    found = (provider for provider in named if provider is not None)
    providers = tuple(takewhile(lambda provider: permits(provider, sent, model, name), found))
    return Outside(route, providers, sent) if providers else Denied(name, route)


def permits(provider: Provider, sent: str, *asked: str) -> bool:
    """Whether a model may be asked for there.

    Args:
        provider: whose lists are held against it.
        sent: the name it would be asked for by, which is what may be allowed.
        asked: the names that the client knows it by; none of them may be denied either.
    """
    if _forbids(provider.deny, sent, *asked):
        return False
    return not provider.allow or any(matches(pattern, sent) for pattern in provider.allow)


def _forbids(patterns: Iterable[str], *names: str) -> bool:
    """Whether a pattern matches one of the names; some providers trim names and ignore case, so this does, too."""
    plain = [name.strip().casefold() for name in names]
    return any(matches(pattern.casefold(), name) for pattern in patterns for name in plain)


def not_permitted(denied: Denied) -> ApiError:
    """The answer that a client gets."""
    return ApiError(
        403,
        f"The model '{denied.model}' is not permitted here: the topology's route '{denied.route.pattern}' denies it.",
        "permission_error",
        "model_not_permitted",
        "model",
    )
