"""The fleet as its readers see it: ``/v1/models`` for clients, ``/fleet`` for the operator. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from config import Model
from helexa.cortex.routing import placement
from helexa.cortex.routing.fleet import Fleet, Node
from helexa.cortex.routing.placement import Host
from helexa.wire import fleet as shapes
from helexa.wire.fleet import Limit, ModelReport

_ORDER = ("loaded", "recovering", "loading", "failed")
_HELD = ("loaded", "recovering", "loading")
_SIGHTED = ("discovery", "version", "uptime_seconds", "devices", "activation")


def models(fleet: Fleet, created: int) -> list[dict[str, Any]]:
    """Every model and alias as ``/v1/models`` lists it.

    Args:
        fleet: what is known now.
        created: Unix time shown as each model's ``created``; OpenAI's shape wants one.
    """
    hosts = placement.hosts(fleet)
    entries = {model: _entry(fleet, model, created, hosts) for model in fleet.known()}
    aliases = {alias: {**entries[target], "id": alias} for alias, target in fleet.aliases.items() if target in entries}
    return list({**entries, **aliases}.values())


def model(fleet: Fleet, name: str, created: int) -> dict[str, Any] | None:
    """One of them; ``None`` if there is no model or alias of that name."""
    known = fleet.resolve(name)
    if known not in fleet.catalogue and known not in fleet.placed:
        return None
    return {**_entry(fleet, known, created, placement.hosts(fleet)), "id": name}


def _entry(fleet: Fleet, model: str, created: int, hosts: Sequence[Host]) -> dict[str, Any]:
    entry = fleet.catalogue.get(model)
    nodes = _nodes(fleet, model)
    reports = [report for node in nodes if (report := node.model(model)) is not None]
    capabilities = sorted({*(each for report in reports for each in report.capabilities), *_declared(entry)})
    locations = [_location(fleet, node, model) for node in nodes]
    return {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": "helexa",
        "status": _status(location["status"] for location in locations),
        "loaded": any(location["status"] == "loaded" for location in locations),
        "feasible_on": _feasible(locations, entry, hosts),
        "locations": locations,
        "capabilities": capabilities,
        "limit": _tightest(report.limit for report in reports),
        "cost": None if entry is None else {"input": entry.cost.input, "output": entry.cost.output},
        "tool_call": "tool_call" in capabilities,
        "reasoning": "reasoning" in capabilities,
    }


def _nodes(fleet: Fleet, model: str) -> list[Node]:
    """The nodes that told of a model, and the one that cortex is having it loaded on."""
    names = fleet.placed.get(model, ())
    load = fleet.loads.get(model)
    if load is not None and load.node in fleet.nodes and load.node not in names:
        names = (*names, load.node)
    return [fleet.nodes[name] for name in names]


def _declared(entry: Model | None) -> tuple[str, ...]:
    return () if entry is None else entry.capabilities


def _status(statuses: Iterable[str]) -> str:
    """The best status of any node: a caller cares whether the model can be used."""
    found = set(statuses)
    return next((status for status in _ORDER if status in found), "unloaded")


def _location(fleet: Fleet, node: Node, model: str) -> dict[str, Any]:
    report: ModelReport | None = node.model(model)
    memory = report.memory_mb if report is not None else 0
    return {"node": node.name, "status": fleet.status(node, model) or "unloaded", "memory_mb": memory}


def _feasible(locations: list[dict[str, Any]], entry: Model | None, hosts: Sequence[Host]) -> list[str]:
    """The nodes that have a model or are about to, and those that could."""
    held = {location["node"] for location in locations if location["status"] in _HELD}
    return [
        host.node.name for host in hosts if host.node.name in held or (entry is not None and host.could_hold(entry))
    ]


def _tightest(limits: Iterable[Limit | None]) -> dict[str, int] | None:
    known = [limit for limit in limits if limit is not None]
    if not known:
        return None
    return {name: min(getattr(limit, name) for limit in known) for name in ("context", "input", "output")}


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """The whole fleet as ``/fleet`` shows it."""
    return {
        "nodes": [_node(fleet, node) for node in fleet.nodes.values()],
        "catalogue": list(fleet.catalogue),
        "aliases": dict(fleet.aliases),
        "loads": [_load(fleet, model) for model in fleet.loads],
        "topology": {"applied_at": fleet.applied_at, "problems": list(fleet.problems)},
    }


def _load(fleet: Fleet, model: str) -> dict[str, Any]:
    load = fleet.loads[model]
    seconds = round(fleet.clock() - load.began_at, 1)
    others = [{"node": node, "device": device} for node, device in load.others]
    found = {"model": model, "node": load.node, "device": load.device, "others": others, "evicts": list(load.evicts)}
    return {**found, "seconds": seconds}


def _node(fleet: Fleet, node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "up": node.up,
        "error": node.error,
        "in_flight": {model: count for (name, model), count in fleet.in_flight.items() if name == node.name},
        "models": [_model(fleet, node, report) for report in node.models],
        **{key: shapes.to_dict(getattr(node.sighting, key, None)) for key in _SIGHTED},
    }


def _model(fleet: Fleet, node: Node, report: ModelReport) -> dict[str, Any]:
    """What a node says of a model, and what cortex knows of it there."""
    at = (node.name, report.id)
    use = fleet.uses.get(at)
    return {
        **shapes.to_dict(report),
        "in_flight": fleet.in_flight.get(at, 0),
        "pinned": fleet.is_kept(*at),
        "draining": at in fleet.draining,
        "idle_seconds": None if use is None else max(0.0, round(fleet.clock() - use.used_at, 1)),
    }
