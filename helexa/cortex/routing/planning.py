"""What a topology would change, and where each of its models would fit: the answer of ``/fleet/plan``. Pure.

And where one model of the fleet that runs could be loaded now: the answer of ``/fleet/models/{model}/places``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from config import Change, Model, Topology, diff
from helexa.cortex.routing.fleet import Fleet, Node
from helexa.cortex.routing.placement import Site, survey


def plan(fleet: Fleet, wanted: Topology) -> dict[str, Any]:
    """Compare a topology with the fleet that runs.

    Args:
        fleet: as it is now.
        wanted: what is to be; sound.

    Returns:
        Plain JSON: ``changes``, each a ``Change`` with its line for people; ``models``, each with where it is loaded
        and every place it could have, the best first.
    """
    then = _under(fleet, wanted)
    return {
        "changes": [_change(change) for change in diff(fleet.topology, wanted).entries],
        "models": [_model(then, model) for model in wanted.models],
    }


def places(fleet: Fleet, name: str) -> dict[str, Any] | None:
    """Every place that a model could have as the fleet is now, the best first, and why not the others.

    Args:
        fleet: as it is now.
        name: a model's, or an alias.

    Returns:
        Plain JSON, as ``plan`` has it of each model; no place for one that nodes brought along and no catalogue has:
        nothing is known of what it needs. ``None``: there is no such model.
    """
    known = fleet.resolve(name)
    if (model := fleet.catalogue.get(known)) is not None:
        return _model(fleet, model)
    return _found(fleet, known, ()) if known in fleet.placed else None


def _under(fleet: Fleet, wanted: Topology) -> Fleet:
    """The fleet as it would be with another topology: the same machines, as far as they are still part of it."""
    seen = ((neuron, fleet.nodes.get(neuron.name)) for neuron in wanted.neurons)
    nodes = {neuron.name: evolve(node, settings=neuron) if node else Node(neuron) for neuron, node in seen}
    return evolve(fleet, topology=wanted, nodes=nodes, catalogue={model.id: model for model in wanted.models})


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "path": change.where,
        "before": _shown(change, change.before),
        "after": _shown(change, change.after),
        "when": change.when,
        "line": str(change),
    }


def _shown(change: Change, value: Any) -> Any:
    """A value without the hashes of keys: whoever may ask for a plan need not know them."""
    if change.path[-1] == "key_hash":
        return None
    if isinstance(value, Mapping):
        return {key: inner for key, inner in value.items() if key != "key_hash"}
    return value


def _model(fleet: Fleet, model: Model) -> dict[str, Any]:
    return _found(fleet, model.id, survey(fleet, model, fleet.clock()))


def _found(fleet: Fleet, model: str, sites: Sequence[Site]) -> dict[str, Any]:
    return {
        "id": model,
        "loaded_on": [holder.node for holder in fleet.holders.get(model, ())],
        "fits": any(site.verdict == "fits" for site in sites),
        "sites": [_site(site) for site in sites],
    }


def _site(site: Site) -> dict[str, Any]:
    return {
        "node": site.node,
        "device": site.device or None,
        "others": [{"node": node, "device": device} for node, device in site.others],
        "need_mb": site.need_mb,
        "free_mb": site.free_mb,
        "total_mb": site.total_mb,
        "evicts": list(site.evicts),
        "verdict": site.verdict,
        "reason": site.reason,
    }
