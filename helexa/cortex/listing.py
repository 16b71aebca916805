"""The fleet as its readers see it: ``/v1/models`` for clients, ``/fleet`` for the operator. Pure."""

from collections.abc import Iterable
from typing import Any

from helexa.cortex.fleet import Fleet, Node
from helexa.wire import fleet as shapes
from helexa.wire.fleet import Limit, ModelReport


def models(fleet: Fleet, created: int) -> list[dict[str, Any]]:
    """Every model and alias as ``/v1/models`` lists it.

    Args:
        fleet: what is known now.
        created: Unix time shown as each model's ``created``; OpenAI's shape wants one.
    """
    entries = {model: _entry(fleet, model, created) for model in fleet.known()}
    aliases = ({**entries[target], "id": alias} for alias, target in fleet.aliases.items() if target in entries)
    return [*entries.values(), *aliases]


def _entry(fleet: Fleet, model: str, created: int) -> dict[str, Any]:
    held = [(node, report) for node in fleet.nodes.values() if (report := node.model(model)) is not None]
    reports = [report for _, report in held]
    capabilities = sorted({each for report in reports for each in report.capabilities})
    return {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": "helexa",
        "status": _status(reports),
        "loaded": any(report.status == "loaded" for report in reports),
        "feasible_on": [node.name for node, _ in held],
        "locations": [_location(node, report) for node, report in held],
        "capabilities": capabilities,
        "limit": _tightest(report.limit for report in reports),
        "tool_call": "tool_call" in capabilities,
        "reasoning": "reasoning" in capabilities,
    }


def _status(reports: list[ModelReport]) -> str:
    """The best status of any node: a caller cares whether the model can be used."""
    order = ("loaded", "recovering", "loading", "failed")
    return next((status for status in order if any(report.status == status for report in reports)), "unloaded")


def _location(node: Node, report: ModelReport) -> dict[str, Any]:
    return {"node": node.name, "status": report.status, "memory_mb": report.memory_mb}


def _tightest(limits: Iterable[Limit | None]) -> dict[str, int] | None:
    known = [limit for limit in limits if limit is not None]
    if not known:
        return None
    return {name: min(getattr(limit, name) for limit in known) for name in ("context", "input", "output")}


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """The whole fleet as ``/fleet`` shows it."""
    return {
        "nodes": [_node(node) for node in fleet.nodes.values()],
        "catalogue": list(fleet.catalogue),
        "aliases": dict(fleet.aliases),
    }


def _node(node: Node) -> dict[str, Any]:
    sighting = None if node.sighting is None else shapes.to_dict(node.sighting)
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "up": node.up,
        "error": node.error,
        "in_flight": dict(node.in_flight),
        "models": [shapes.to_dict(report) for report in node.models],
        **{key: sighting[key] if sighting else None for key in _SIGHTED},
    }


_SIGHTED = ("discovery", "version", "uptime_seconds", "devices", "activation")
