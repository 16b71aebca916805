"""Where a request goes. Pure: a fleet in, a decision out."""

from collections.abc import Collection

from attrs import frozen

from helexa.cortex.fleet import Fleet, Node
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ModelReport

RECOVERING_RETRY_SECONDS = 2
NO_NODE_RETRY_SECONDS = 5


@frozen
class Route:
    """Send it there."""

    node: str
    endpoint: str
    model: str


@frozen
class Recovering:
    """A node is bringing the model up, or up again."""

    model: str
    node: str
    status: str


@frozen
class NoHealthyNodes:
    """The model is known, and no node that could serve it answers."""

    model: str


@frozen
class NotLoaded:
    """The model is known, nodes answer, and none has it; ``reasons`` by node where loading failed."""

    model: str
    reasons: tuple[tuple[str, str], ...] = ()


@frozen
class Unknown:
    """Nothing here has ever heard of the model."""

    model: str


Refusal = Recovering | NoHealthyNodes | NotLoaded | Unknown
Decision = Route | Refusal


def resolve(fleet: Fleet, name: str, avoid: Collection[str] = ()) -> Decision:
    """Decide where a request for ``name``, an id or an alias, goes.

    Loaded somewhere: the node with the fewest requests of it in flight, the first by name among equals. Otherwise the
    most hopeful refusal.

    Args:
        fleet: what is known now.
        name: as the caller asked.
        avoid: nodes that this very request has already found unreachable.
    """
    model = fleet.aliases.get(name, name)
    nodes = [node for node in fleet.nodes.values() if node.name not in avoid]
    holders = [node for node in nodes if node.up and _status(node, model) == "loaded"]
    if holders:
        best = min(holders, key=lambda node: (node.in_flight.get(model, 0), node.name))
        return Route(best.name, best.endpoint, model)
    return _refuse(fleet, nodes, model)


def _refuse(fleet: Fleet, nodes: list[Node], model: str) -> Refusal:
    for node in nodes:
        if node.up and (status := _status(node, model)) in ("loading", "recovering"):
            return Recovering(model, node.name, str(status))
    if model not in fleet.known():
        return Unknown(model)
    if not any(node.up for node in nodes):
        return NoHealthyNodes(model)
    return NotLoaded(model, _failures(nodes, model))


def _status(node: Node, model: str) -> str | None:
    """The model's status on a node; one that start-up is still to load counts as loading."""
    report: ModelReport | None = node.model(model)
    if report is not None:
        return report.status
    sighting = node.sighting
    if sighting is None:
        return None
    coming = (*sighting.activation.pending, sighting.activation.in_progress)
    return "loading" if model in coming else None


def _failures(nodes: list[Node], model: str) -> tuple[tuple[str, str], ...]:
    found = []
    for node in nodes:
        failed = node.sighting.activation.failed if node.sighting else ()
        found += [(node.name, failure.error) for failure in failed if failure.model == model]
        report = node.model(model)
        if report is not None and report.error:
            found.append((node.name, report.error))
    return tuple(dict.fromkeys(found))


def refusal_error(refusal: Refusal) -> ApiError:
    """The answer a refused caller gets."""
    match refusal:
        case Unknown(model):
            return errors.model_not_found(model)
        case Recovering(model, node, status):
            return errors.unavailable(f"The model '{model}' is {status} on {node}.", RECOVERING_RETRY_SECONDS)
        case NoHealthyNodes(model):
            detail = f"No healthy node can serve the model '{model}' right now."
            return errors.unavailable(detail, NO_NODE_RETRY_SECONDS)
        case NotLoaded(model, reasons):
            why = "; ".join(f"{node}: {reason}" for node, reason in reasons)
            detail = f"The model '{model}' is not loaded on any node" + (f" ({why})." if why else ".")
            return errors.unavailable(detail, NO_NODE_RETRY_SECONDS)
