"""Where a request goes. Pure: a fleet in, a decision out."""

from collections.abc import Set as AbstractSet
from math import ceil

from attrs import frozen

from config import Model, Quant
from helexa.cortex.routing import placement
from helexa.cortex.routing.fleet import Fleet, Holder
from helexa.cortex.routing.placement import Site
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ModelReport

RECOVERING_RETRY_SECONDS = 2
NO_NODE_RETRY_SECONDS = 5
_LOAD_STEPS = 8
"""Nodes are told apart by how full they are in eighths: within one, where the prefix is cached decides."""


@frozen
class Wanted:
    """What a request asks for.

    Attributes:
        name: a model id or an alias.
        prefixes: hashes of the beginnings of its conversation, the longest first: where one was served before, its KV
            cache may still be found.
        avoid: nodes that this very request has already found in trouble.
    """

    name: str
    prefixes: tuple[bytes, ...] = ()
    avoid: frozenset[str] = frozenset()


@frozen
class Route:
    """Send it there."""

    node: str
    endpoint: str
    model: str


@frozen
class ColdLoad:
    """Load the model first: there, after ``evicts`` have made room.

    Attributes:
        device: torch's name of one, or of several that share the model, as in ``cuda:0+cuda:1``.
        others: node and device of each of the last ranks, where several nodes share it; rank 0's node is ``node``.
    """

    model: str
    source: str
    node: str
    device: str
    evicts: tuple[str, ...] = ()
    quant: Quant | None = None
    others: tuple[tuple[str, str], ...] = ()


@frozen
class Wait:
    """Something is under way that decides: ask again when the fleet has changed, or at ``until`` at the latest."""

    model: str
    reason: str
    until: float | None = None


@frozen
class Recovering:
    """A node is bringing the model up again."""

    model: str
    node: str
    status: str


@frozen
class NoHealthyNodes:
    """The model is known, and no node that could serve it answers."""

    model: str


@frozen
class NoFeasibleNeuron:
    """Nodes answer, and none can hold the model; ``reasons`` by node."""

    model: str
    reasons: tuple[tuple[str, str], ...] = ()


@frozen
class LoadFailed:
    """The model did not load wherever it could have, a moment ago; it is tried again in ``retry_after`` seconds."""

    model: str
    reasons: tuple[tuple[str, str], ...]
    retry_after: int


@frozen
class LoadingTooLong:
    """Its load, or what its load waits for, takes longer than a request may wait."""

    model: str
    reason: str


@frozen
class Unknown:
    """Nothing here has ever heard of the model."""

    model: str


Refusal = Recovering | NoHealthyNodes | NoFeasibleNeuron | LoadFailed | LoadingTooLong | Unknown
Decision = Route | ColdLoad | Wait | Refusal


def resolve(fleet: Fleet, wanted: Wanted, now: float = 0.0, served: str | None = None) -> Decision:
    """Decide where a request goes.

    In this order: where the model is loaded, the emptiest node, the one that served the conversation before among
    equals; a node that loads it; a node that recovers it; a device that could load it; or the most hopeful refusal.

    Args:
        fleet: what is known now.
        wanted: the request.
        now: seconds of a monotonic clock.
        served: the node that last served a beginning of this conversation.
    """
    model = fleet.resolve(wanted.name)
    holders = fleet.holders.get(model, ())
    if wanted.avoid or fleet.draining:
        shunned = _shunned(fleet, model, wanted)
        holders = tuple([each for each in holders if each.node not in shunned]) if shunned else holders
    if holders:
        best = holders[0] if len(holders) == 1 else _emptiest(fleet, model, holders, served)
        return Route(best.node, best.endpoint, model)
    return _under_way(fleet, model, wanted.avoid) or _from_catalogue(fleet, model, wanted.avoid, now)


def _shunned(fleet: Fleet, model: str, wanted: Wanted) -> AbstractSet[str]:
    """The nodes where the model gets no further requests, or not this one."""
    return wanted.avoid | {node for node, leaving in fleet.draining if leaving == model}


def _emptiest(fleet: Fleet, model: str, holders: tuple[Holder, ...], served: str | None) -> Holder:
    """The best by (fullness, whether it served the conversation, requests, name); a loop, as there may be hundreds."""
    best, in_flight = holders[0], fleet.in_flight
    fullest, rank = 2**62, (True, 0, "")
    for holder in holders:
        node = holder.node
        count = in_flight.get((node, model), 0)
        full = count * _LOAD_STEPS // (holder.capacity or 1)
        if full < fullest or (full == fullest and (node != served, count, node) < rank):
            best, fullest, rank = holder, full, (node != served, count, node)
    return best


def _under_way(fleet: Fleet, model: str, avoid: AbstractSet[str]) -> Wait | Recovering | None:
    if (load := fleet.loads.get(model)) is not None:
        return Wait(model, f"it is being loaded on {load.node}")
    nodes = [fleet.nodes[name] for name in fleet.placed.get(model, ()) if name not in avoid]
    states = {node.name: fleet.status(node, model) for node in nodes if node.up}
    for name, status in states.items():
        if status == "loading":
            return Wait(model, f"it is being loaded on {name}")
    for name, status in states.items():
        if status == "recovering":
            return Recovering(model, name, status)
    return None


def _from_catalogue(fleet: Fleet, model: str, avoid: AbstractSet[str], now: float) -> ColdLoad | Wait | Refusal:
    entry = fleet.catalogue.get(model)
    if entry is None and model not in fleet.placed:
        return Unknown(model)
    able = fleet.nodes if entry is not None else fleet.placed[model]
    if not any(fleet.nodes[name].up for name in able if name not in avoid):
        return NoHealthyNodes(model)
    if entry is None:
        return NoFeasibleNeuron(model, _reports(fleet, model))
    return _place(entry, placement.survey(fleet, entry, now, avoid), now)


def cold_load(entry: Model, site: Site) -> ColdLoad:
    """To load a model at a place that it fits."""
    return ColdLoad(entry.id, entry.source, site.node, site.device, site.evicts, entry.quant, site.others)


def _place(entry: Model, sites: tuple[Site, ...], now: float) -> ColdLoad | Wait | Refusal:
    by_verdict = {site.verdict: site for site in reversed(sites)}  # the first of each
    if (best := by_verdict.get("fits")) is not None:
        return cold_load(entry, best)
    untils = [site.until for site in sites if site.until is not None]
    if (later := by_verdict.get("later")) is not None:
        return Wait(entry.id, f"{later.node}: {later.reason}", min(untils, default=None))
    reasons = tuple(dict.fromkeys((site.node, site.reason or "") for site in sites))
    if "failed" not in by_verdict:
        return NoFeasibleNeuron(entry.id, reasons)
    return LoadFailed(entry.id, reasons, max(1, ceil(min(untils) - now)))


def _reports(fleet: Fleet, model: str) -> tuple[tuple[str, str], ...]:
    """What nodes say of a model that is not in the catalogue."""
    found = ((name, fleet.nodes[name].model(model)) for name in fleet.placed.get(model, ()))
    return tuple((name, _state(fleet, name, report)) for name, report in found if report is not None)


def _state(fleet: Fleet, node: str, report: ModelReport) -> str:
    if report.error:
        return report.error
    return "it is about to be unloaded" if (node, report.id) in fleet.draining else f"it is {report.status}"


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
        case NoFeasibleNeuron(model, reasons):
            detail = f"No node can hold the model '{model}' ({_listed(reasons)})."
            return errors.unavailable(detail, NO_NODE_RETRY_SECONDS)
        case LoadFailed(model, reasons, retry_after):
            return errors.unavailable(f"The model '{model}' does not load ({_listed(reasons)}).", retry_after)
        case LoadingTooLong(model, reason):
            detail = f"The model '{model}' is not ready yet: {reason}."
            return errors.unavailable(detail, NO_NODE_RETRY_SECONDS)


def _listed(reasons: tuple[tuple[str, str], ...]) -> str:
    return "; ".join(f"{node}: {reason}" for node, reason in reasons) or "there is none"
