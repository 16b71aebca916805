"""Loads, unloads and pins models because an operator says so. Implements ``ports.Lifecycle``."""

import math

import trio
from attrs import evolve, frozen

from actors.control import ControlError
from actors.loads import BusyError, busy
from actors.router import Router
from config import Model
from config.units import Duration
from helexa.cortex.routing import placement
from helexa.cortex.routing.fleet import Load
from helexa.cortex.routing.placement import Site
from helexa.cortex.routing.policy import cold_load
from helexa.cortex.routing.sightings import is_fetched
from helexa.cortex.routing.state import Happening
from helexa.wire import errors


@frozen
class Lifecycle:
    """The operator's hands.

    Attributes:
        router: whose state it is.
    """

    router: Router

    async def load(self, model: str, node: str | None) -> str:
        """Load a model and wait until it serves; see ``ports.Lifecycle``."""
        entry = self._entry(model)
        self._check_node(node)
        with trio.move_on_after(self.router.fleet().topology.cortex.load_timeout):
            return await self._load(entry, node)
        raise errors.unavailable(f"The model '{entry.id}' is still loading.", 5)

    async def _load(self, entry: Model, node: str | None) -> str:
        begun: Load | None = None
        while not (there := self._serving(entry.id, node)):
            until, loads = math.inf, self.router.fleet().loads
            if entry.id not in loads and begun is not None:
                self._check_failure(begun)
            if entry.id not in loads and not self._is_coming(entry.id, node):
                until = self._begin(entry, node)
            if (load := loads.get(entry.id)) is not None and node in (None, load.node):
                begun = load
            await self.router.changed.wait_until(until)
        return there[0]

    def _begin(self, entry: Model, node: str | None) -> float:
        """Begin a load where it fits best, or find out what to wait for; until when."""
        self.router.state.forgive(entry.id)  # what failed before is to be tried again
        sites = [site for site in self._survey(entry) if node in (None, site.node)]
        best = next((site for site in sites if site.verdict == "fits"), None)
        if best is not None:
            wait = self.router.begin(cold_load(entry, best))
            return wait.until or math.inf
        if any(site.verdict == "later" for site in sites):
            return math.inf
        if (until := self.router.loads.outdated(node)) is not None:
            return until
        reasons = "; ".join(f"{site.node}: {site.reason}" for site in sites) or "there is no node"
        raise errors.unavailable(f"No node can hold the model '{entry.id}' now ({reasons}).", 5)

    def _survey(self, entry: Model) -> tuple[Site, ...]:
        """As for a request, but an operator need not wait until what was just loaded has settled."""
        fleet = self.router.fleet()
        eviction = evolve(fleet.topology.cortex.eviction, residency=Duration(0.0))
        topology = evolve(fleet.topology, cortex=evolve(fleet.topology.cortex, eviction=eviction))
        return placement.survey(evolve(fleet, topology=topology), entry, trio.current_time())

    def _check_failure(self, load: Load) -> None:
        """Raise what a load failed of; one that was only given up is begun again."""
        failure = self.router.fleet().failures.get((load.node, load.model))
        if failure is not None:
            raise errors.upstream_error(f"The model '{load.model}' does not load on {load.node}: {failure.error}.")

    async def unload(self, model: str, node: str | None) -> tuple[str, ...]:
        """Unload a model once its requests have ended, or fetch it no further; see ``ports.Lifecycle``."""
        known = self.router.fleet().resolve(model)
        coming = self._fetching(known, node)
        found = (*coming, *self._holders(known, node)) if coming else self._loaded(model, node)
        for each in found:
            try:
                await self.router.loads.unload((each, known), "an operator asked for it")
            except (BusyError, ControlError) as error:
                raise busy(error) from error
        return found

    def pin(self, model: str, node: str | None, *, pinned: bool) -> tuple[str, ...]:
        """Keep a model where it is loaded, or no longer; see ``ports.Lifecycle``."""
        found, known = self._loaded(model, node), self.router.fleet().resolve(model)
        for each in found:
            self.router.state.pin((each, known), pinned=pinned)
            kind = "model.pinned" if pinned else "model.unpinned"
            self.router.tell(Happening(kind, {"node": each, "model": known}))
        return found

    def alias(self, alias: str, model: str | None) -> None:
        """Have a further name for a model, or no longer; see ``ports.Lifecycle``."""
        fleet = self.router.fleet()
        if alias in fleet.topology.aliases:
            raise errors.invalid_value("alias", "the topology file has it; change it there")
        if alias in fleet.catalogue or alias in fleet.placed:
            raise errors.invalid_value("alias", "a model has this name")
        if model is None and alias not in fleet.aliases:
            raise errors.model_not_found(alias)
        known = None if model is None else self._known(model)
        self.router.state.name(alias, known)
        kind = "alias.removed" if known is None else "alias.made"
        self.router.tell(Happening(kind, {"alias": alias, "model": known or fleet.resolve(alias)}))

    async def logs(self, node: str, query: str) -> bytes:
        """A page of a node's log; see ``ports.Lifecycle``."""
        self._check_node(node)
        try:
            return await self.router.loads.control.logs(self.router.fleet().nodes[node].endpoint, query)
        except ControlError as error:
            raise errors.upstream_error(f"{node} does not tell its log: {error}.") from error

    def _known(self, name: str) -> str:
        fleet = self.router.fleet()
        model = fleet.resolve(name)
        if model not in fleet.catalogue and model not in fleet.placed:
            raise errors.model_not_found(name)
        return model

    def _entry(self, name: str) -> Model:
        fleet = self.router.fleet()
        entry = fleet.catalogue.get(fleet.resolve(name))
        if entry is None:
            raise errors.model_not_found(name)
        return entry

    def _check_node(self, node: str | None) -> None:
        known = self.router.fleet().nodes
        if node is not None and node not in known:
            raise errors.invalid_value("node", f"this fleet has {', '.join(known) or 'none'}")

    def _is_coming(self, model: str, node: str | None) -> bool:
        """Whether a node loads it by itself, as at its start."""
        fleet = self.router.fleet()
        nodes = [each for name, each in fleet.nodes.items() if each.up and node in (None, name)]
        return any(fleet.status(each, model) == "loading" for each in nodes)

    def _serving(self, model: str, node: str | None) -> tuple[str, ...]:
        """Where it is loaded and to stay."""
        draining = self.router.fleet().draining
        return tuple(each for each in self._holders(model, node) if (each, model) not in draining)

    def _holders(self, model: str, node: str | None) -> tuple[str, ...]:
        found = self.router.fleet().holders.get(model, ())
        return tuple(each.node for each in found if node in (None, each.node))

    def _fetching(self, model: str, node: str | None) -> tuple[str, ...]:
        """Where a model is on its way to."""
        nodes = [each for name, each in self.router.fleet().nodes.items() if each.up and node in (None, name)]
        return tuple(each.name for each in nodes if (report := each.model(model)) is not None and is_fetched(report))

    def _loaded(self, name: str, node: str | None) -> tuple[str, ...]:
        """Where a model is loaded.

        Raises:
            ApiError: nowhere, or not there.
        """
        self._check_node(node)
        model = self._known(name)
        found = self._holders(model, node)
        if not found:
            raise errors.invalid_value("model", f"'{model}' is not loaded" + (f" on {node}" if node else ""))
        return found
