"""The fleet's state and everything that changes it, one method per event. Synchronous; without an effect of its own.

What happened is returned as ``Happening``s, for whoever tells the world.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from attrs import asdict, evolve, field, frozen

from config import Model, Topology
from helexa.cortex.routing import sightings
from helexa.cortex.routing.fleet import At, Failure, Fleet, Load, Node, Sighting, Use
from helexa.cortex.routing.policy import ColdLoad, Decision, Route, Wanted, resolve
from helexa.cortex.routing.sightings import Told
from helexa.wire.fleet import ModelReport
from helexa.wire.ranks import devices_of

FIRST_BACKOFF, LAST_BACKOFF = 5.0, 300.0
"""Seconds until a failed load is tried again, doubled each time."""
REMEMBERED_PREFIXES = 65_536
_KINDS = {"failed": "model.load_failed"}
_Key = TypeVar("_Key")


@frozen
class NodeUp:
    """A neuron answered.

    Attributes:
        asked_at: when it was asked, seconds of a monotonic clock: what has been loaded or unloaded since, it may not
            have known.
        error: what is wrong with it although it serves.
    """

    node: str
    sighting: Sighting
    asked_at: float = 0.0
    error: str | None = None


@frozen
class NodeDown:
    """A neuron did not answer, or not as a neuron does."""

    node: str
    error: str


Sight = NodeUp | NodeDown


@frozen
class Happening:
    """Something that an operator may want to know of. ``kind`` as in ``/fleet/events``."""

    kind: str
    data: Mapping[str, Any] = field(factory=dict)


class State:
    """Owns the fleet. One writer at a time.

    Args:
        topology: what is to be.
        clock: seconds, monotonic.
        applied_at: Unix time since when the topology is in force.
    """

    def __init__(self, topology: Topology, clock: Callable[[], float], applied_at: float = 0.0) -> None:
        self._clock = clock
        self._counts: dict[At, int] = {}
        self._uses: dict[At, Use] = {}
        self._draining: set[At] = set()
        self._loads: dict[str, Load] = {}
        self._failures: dict[At, Failure] = {}
        self._cycles: dict[tuple[str, str], int] = {}
        self._changed_at: dict[At, float] = {}
        self._told: dict[str, Told] = {}
        self._named: dict[str, str] = {}
        self._served: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        nodes = {neuron.name: Node(neuron) for neuron in topology.neurons}
        live: dict[str, Any] = {
            "in_flight": self._counts,
            "uses": self._uses,
            "draining": self._draining,
            "loads": self._loads,
            "failures": self._failures,
            "cycles": self._cycles,
        }
        self.fleet = Fleet(topology, nodes, _by_id(topology.models), clock=clock, applied_at=applied_at, **live)

    def decide(self, wanted: Wanted) -> Decision:
        """Where a request goes now."""
        return resolve(self.fleet, wanted, self._clock(), self._who_served(wanted))

    def _who_served(self, wanted: Wanted) -> str | None:
        """The node with the longest beginning of the conversation, of those that still have the model."""
        if not wanted.prefixes:
            return None
        model = self.fleet.resolve(wanted.name)
        for prefix in wanted.prefixes:
            node = self._served.get((model, prefix))
            if node is not None and node not in wanted.avoid and (node, model) in self._uses:
                return node
        return None

    def open(self, route: Route, prefixes: Iterable[bytes] = ()) -> None:
        """A request goes there."""
        at = (route.node, route.model)
        self._counts[at] = self._counts.get(at, 0) + 1
        self._touch(at)
        for prefix in prefixes:
            self._served[route.model, prefix] = route.node
            self._served.move_to_end((route.model, prefix))
        while len(self._served) > REMEMBERED_PREFIXES:
            self._served.popitem(last=False)

    def close(self, route: Route) -> bool:
        """A request has ended; whether it was the model's last there."""
        at = (route.node, route.model)
        self._touch(at)
        left = self._counts.get(at, 0) - 1
        if left > 0:
            self._counts[at] = left
        else:
            self._counts.pop(at, None)
        return left <= 0

    def _touch(self, at: At) -> None:
        if (use := self._uses.get(at)) is not None:
            self._uses[at] = evolve(use, used_at=self._clock())

    def see(self, sight: Sight) -> list[Happening]:
        """Believe a sighting. One of a node that is no longer in the topology is passed over."""
        before = self.fleet.nodes.get(sight.node)
        if before is None:
            return []
        match sight:
            case NodeUp(_, said, asked_at, error):
                believed = self._corrected(before, said, asked_at)
                if believed is None:
                    return []
                after = evolve(before, up=True, sighting=believed, error=error)
            case NodeDown(_, error):
                after = evolve(before, up=False, error=error)
        failed = self._note_failures(before, after)
        comings = [] if before.up == after.up else [Happening(*sightings.coming(after))]
        happened = [*comings, *self._changes(before, after, failed)]
        self._put(before, after)
        return happened

    def _corrected(self, before: Node, said: Sighting, asked_at: float) -> Sighting | None:
        """What a node says, but for loads and unloads that it may not have known of when it was asked.

        ``None`` if it is the first thing it says: there is nothing to correct it by, and it will soon be asked again.
        """
        there = {model: at for (node, model), at in self._changed_at.items() if node == before.name}
        since = {model for model, at in there.items() if at >= asked_at}
        for model in there.keys() - since:
            del self._changed_at[before.name, model]
        if not since:
            return said
        return None if before.sighting is None else sightings.corrected(said, before.sighting, since)

    def begin(self, plan: ColdLoad) -> Load:
        """A load begins.

        Raises:
            RuntimeError: the model is being loaded already.
        """
        if plan.model in self._loads:
            raise RuntimeError(f"{plan.model} is being loaded already")
        used = sightings.used_mb(self.fleet.nodes.get(plan.node), plan.device, without=plan.evicts)
        load = Load(plan.model, plan.node, plan.device, plan.evicts, self._clock(), used, plan.others)
        self._loads[plan.model] = load
        return load

    def loaded(self, load: Load, report: ModelReport) -> None:
        """A load has succeeded; what the node said of the model."""
        self._loads.pop(load.model, None)
        self._patch(load.node, load.model, report, load.used_mb)

    def load_failed(self, load: Load, error: str) -> None:
        """A load has failed, and is not tried there again for a while."""
        self._loads.pop(load.model, None)
        self._remember((load.node, load.model), error)
        node = self.fleet.nodes.get(load.node)
        report = node.model(load.model) if node is not None and node.up else None
        if report is not None and report.status == "loading":  # else those who wait would go on to wait for it
            self._patch(load.node, load.model, evolve(report, status="failed", error=error))

    def unloaded(self, at: At) -> None:
        """A model has left a node."""
        self._draining.discard(at)
        self._patch(*at, None)

    def restarted(self, node: str, device: str) -> None:
        """A device's worker begins anew."""
        self._cycles.pop((node, device), None)

    def forgive(self, model: str) -> None:
        """Forget that a model failed to load: an operator wants it tried again."""
        for at in [at for at in self._failures if at[1] == model]:
            del self._failures[at]

    def drain(self, at: At, *, on: bool) -> None:
        """Give a model on a node no further requests, or give it some again."""
        if on:
            self._draining.add(at)
        else:
            self._draining.discard(at)

    def pin(self, at: At, *, pinned: bool) -> None:
        """Keep a model where it is loaded, or no longer.

        Raises:
            KeyError: it is not loaded there.
        """
        self._uses[at] = evolve(self._uses[at], pinned=pinned)

    def name(self, alias: str, model: str | None) -> None:
        """A further name for a model, by hand; ``None``: no longer. What the topology names stays the file's."""
        self._named.pop(alias, None)
        if model is not None:
            self._named[alias] = model
        self.fleet = evolve(self.fleet, aliases=self._aliases(self.fleet.topology))

    def _aliases(self, topology: Topology) -> Mapping[str, str]:
        return {**self._named, **topology.aliases}

    def apply(self, topology: Topology, applied_at: float) -> None:
        """Have another topology in force. Nodes that stay keep what is known of them."""
        old, nodes = self.fleet, {}
        for neuron in topology.neurons:
            known = old.nodes.get(neuron.name)
            keep = known is not None and known.endpoint == neuron.endpoint
            nodes[neuron.name] = evolve(known, settings=neuron) if known is not None and keep else Node(neuron)
        catalogue = _by_id(topology.models)
        self._told = {name: sightings.told(node) for name, node in nodes.items()}
        self.fleet = evolve(
            old,
            topology=topology,
            nodes=nodes,
            catalogue=catalogue,
            holders={},
            placed={},
            problems=(),
            applied_at=applied_at,
            aliases=self._aliases(topology),
        )
        self._reindex({model for told in self._told.values() for model in told})
        self._prune(old)

    def _prune(self, old: Fleet) -> None:
        """Forget what belongs to nodes that are gone; their requests still end and are counted down.

        A failed load is tried again at once where its settings have changed.
        """
        new = self.fleet
        seen = {name for name, node in new.nodes.items() if node.sighting is not None}
        _keep(self._uses, lambda at: at[0] in seen)
        _keep(self._cycles, lambda at: at[0] in seen)
        _keep(self._changed_at, lambda at: at[0] in seen)
        same_nodes = {name for name in seen if old.nodes[name].settings == new.nodes[name].settings}
        same_models = {name for name, entry in new.catalogue.items() if old.catalogue.get(name) == entry}
        _keep(self._failures, lambda at: at[0] in same_nodes and at[1] in same_models)

    def reject(self, problems: tuple[str, ...]) -> None:
        """An edit of the topology is not valid; nothing changes but that this is known."""
        self.fleet = evolve(self.fleet, problems=problems)

    def _patch(
        self, node: str, model: str, report: ModelReport | None, used_mb: Mapping[str, int] | None = None
    ) -> None:
        """Know of a load or an unload before the poller tells.

        Args:
            node: its name.
            model: its id.
            report: ``None`` if it was unloaded.
            used_mb: of a model that was loaded: MiB of each memory it has a part of that were in use without it.
        """
        self._changed_at[node, model] = self._clock()
        before = self.fleet.nodes.get(node)
        if before is None or before.sighting is None:
            return
        known = sightings.patched(before.sighting, model, report, used_mb)
        self._put(before, evolve(before, sighting=known))

    def _put(self, before: Node, after: Node) -> None:
        self.fleet = evolve(self.fleet, nodes={**self.fleet.nodes, after.name: after})
        self._count_cycles(before, after)
        self._track(before, after)
        old, new = self._told.get(after.name, {}), sightings.told(after)
        changed = {
            model
            for model in old.keys() | new.keys()
            if (model in old, old.get(model)) != (model in new, new.get(model))
        }
        if changed:
            self._told[after.name] = new
            self._reindex(changed)

    def _reindex(self, models: Iterable[str]) -> None:
        holders, placed = dict(self.fleet.holders), dict(self.fleet.placed)
        for model in models:
            there = {name: told[model] for name in self.fleet.nodes if model in (told := self._told.get(name, {}))}
            _set_or_drop(placed, model, tuple(there))
            _set_or_drop(holders, model, tuple(holder for holder in there.values() if holder is not None))
        self.fleet = evolve(self.fleet, holders=holders, placed=placed)

    def _track(self, before: Node, after: Node) -> None:
        """Keep ``uses`` to what is loaded; what a worker is bringing back counts as that."""
        now = self._clock()
        stays = {report.id for report in after.models if report.status in ("loaded", "recovering")}
        for report in before.models:
            if report.id not in stays:
                self._uses.pop((after.name, report.id), None)
        for report in after.models:
            if report.status == "loaded":
                at = (after.name, report.id)
                self._failures.pop(at, None)
                self._uses.setdefault(at, Use(now, now))
                if report.running + report.waiting:
                    self._touch(at)

    def _count_cycles(self, before: Node, after: Node) -> None:
        if sightings.has_restarted(before, after):
            _keep(self._cycles, lambda at: at[0] != after.name)
            return
        for report in sightings.unloaded(before, after):
            if report.device is not None:
                self._count_cycle(after, report.device)

    def _count_cycle(self, node: Node, device: str) -> None:
        """A group's processes end with the last of its models, and their memory is whole again."""
        at = (node.name, device)
        if len(devices_of(device)) > 1 and all(report.device != device for report in node.models):
            self._cycles.pop(at, None)
        else:
            self._cycles[at] = self._cycles.get(at, 0) + 1

    def _note_failures(self, before: Node, after: Node) -> dict[str, str]:
        """Remember what a node failed to load by itself, so that it is not asked again at once; what, and why."""
        found = {}
        for model, error in sightings.failures(before, after).items():
            load, known = self._loads.get(model), self._failures.get((after.name, model))
            ours = load is not None and load.node == after.name
            if not ours and (known is None or known.until <= self._clock()):
                self._remember((after.name, model), error)
                found[model] = error
        return found

    def _remember(self, at: At, error: str) -> None:
        known = self._failures.get(at)
        count = known.count + 1 if known is not None else 1
        delay = min(FIRST_BACKOFF * 2.0 ** min(count - 1, 16), LAST_BACKOFF)
        self._failures[at] = Failure(error, self._clock() + delay, count)

    def _changes(self, before: Node, after: Node, failed: Mapping[str, str]) -> Iterator[Happening]:
        """What a sighting tells of models that nobody else tells."""
        errors = {report.id: report.error for report in after.models} | dict(failed)
        changed = {model: (was, now) for model, was, now in sightings.changes(before, after)}
        for model in sorted(changed.keys() | failed.keys()):
            was, now = changed.get(model, (None, "failed"))
            status = "failed" if model in failed else now
            data: dict[str, Any] = {"node": after.name, "model": model}
            if status == "failed":
                data["error"] = errors.get(model)
            if model in failed or not self._is_ours(after.name, model, was, status):
                yield Happening(_KINDS.get(status, f"model.{status}"), data)
        for model, progress in sightings.progress(before, after):
            yield Happening("model.progress", {"node": after.name, "model": model, **asdict(progress)})

    def _is_ours(self, node: str, model: str, was: str | None, status: str) -> bool:
        """Whether it is what cortex has done, and tells of by itself."""
        load = self._loads.get(model)
        if load is not None and load.node == node:
            return status in ("loading", "failed")
        if status == "failed":
            return was is None  # after a load so short that it was never seen loading
        return status == "unloaded" and (node, model) in self._draining


def _by_id(models: Iterable[Model]) -> dict[str, Model]:
    return {model.id: model for model in models}


def _keep(known: dict[_Key, Any], wanted: Callable[[_Key], bool]) -> None:
    for key in [key for key in known if not wanted(key)]:
        del known[key]


def _set_or_drop(index: dict[str, Any], key: str, value: tuple[Any, ...]) -> None:
    if value:
        index[key] = value
    else:
        index.pop(key, None)
