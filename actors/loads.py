"""What it takes to get a model onto a device and off it again, while others are being served.

A load's life: those that make room get no further requests, their last ones end, they are unloaded, the model is
loaded, everybody who waits is told. Whatever fails in between is remembered with its reason, and nothing stays half
done.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
import trio
from attrs import define, evolve, field

from actors.actor import error_line
from actors.bell import Bell
from actors.control import ControlError, NeuronControl
from actors.spread import Spread
from helexa.cortex.routing.fleet import At, Load
from helexa.cortex.routing.policy import ColdLoad
from helexa.cortex.routing.state import Happening, State
from helexa.wire import errors
from helexa.wire.fleet import LoadRequest, ModelReport

UNLOAD_SECONDS = 60.0
RESTART_SECONDS = 600.0
"""The worker's models are loaded again in that time."""
LOAD_SECONDS = 4 * 3600.0
"""A large model may have to be downloaded first."""
DOWN_SECONDS = 30.0
"""A node that was down for so long while it was to load something is not waited for any more."""
LOOK_SECONDS = 5.0
"""How long to wait at most for news of a device's memory after something there has changed."""
_log = structlog.get_logger()


class BusyError(Exception):
    """A model's requests did not end in time; half a sentence."""


@define(eq=False)
class Loads:
    """Loads and unloads. Changes the state only between two awaits, each change whole.

    Attributes:
        state: the fleet's.
        control: reaches the neurons.
        spread: has ranks run by nodes that share a model with another one.
        tell: hears of what happens.
        changed: rung whenever something happened that somebody may wait for.
        poke: has a node looked at now.
    """

    state: State
    control: NeuronControl
    tell: Callable[[Happening], None]
    changed: Bell
    poke: Callable[[str], None] = field(default=lambda _: None)
    spread: Spread = field(init=False)
    _drains: Counter[At] = field(factory=Counter)
    _altered: dict[str, float] = field(factory=dict)

    @spread.default
    def _own_spread(self) -> Spread:
        return Spread(self.state, self.control)

    def begin(self, plan: ColdLoad) -> Load:
        """Note a load, and give those that make room no further requests from this moment. Then comes ``run``."""
        load = self.state.begin(plan)
        self._hold(_victims(load))
        return load

    async def run(self, plan: ColdLoad, load: Load) -> None:
        """Carry out a load that has begun. Only what ends the router gets out of here."""
        try:
            self._say("model.loading", load, evicts=list(load.evicts))
            self._succeeded(load, await self._carry_out(plan, load))
        except (ControlError, BusyError) as error:
            self._failed(load, str(error))
        except Exception as error:  # noqa: BLE001 - let out, a fault of ours would end everybody else's loads, too
            _log.error("model.load_fault", node=load.node, model=load.model, exc_info=error)
            self._failed(load, f"this gateway met a fault of its own: {error_line(error)}")
        except BaseException:
            self._given_up(load)
            raise
        finally:
            self._release(_victims(load))
            for node in {load.node, *(node for node, _ in load.others)}:
                self._alter(node)

    def _succeeded(self, load: Load, report: ModelReport) -> None:
        self.state.loaded(load, report)
        self._say("model.loaded", load, seconds=round(trio.current_time() - load.began_at, 2))

    def _failed(self, load: Load, error: str) -> None:
        self.state.load_failed(load, error)
        self._say("model.load_failed", load, error=error)

    def _given_up(self, load: Load) -> None:
        """The router ends, which is no fault of model or node: whoever waits may have it tried again at once."""
        self.state.load_failed(load, "its load was given up")
        self.state.forgive(load.model)
        self._say("model.load_failed", load, error="its load was given up")

    async def _carry_out(self, plan: ColdLoad, load: Load) -> ModelReport:
        """Make room, load."""
        try:
            with trio.fail_after(LOAD_SECONDS):
                await self._unload_all(_victims(load), f"makes room for {load.model}", "model.evicted")
                request = LoadRequest(plan.model, plan.source, plan.device, plan.quant)
                if plan.others:
                    return await self._load_over_several(plan, request)
                return await self._ask_to_load(load.node, request)
        except trio.TooSlowError:
            raise ControlError(f"it took more than {LOAD_SECONDS:g} s") from None

    async def _load_over_several(self, plan: ColdLoad, request: LoadRequest) -> ModelReport:
        """Have other nodes run their ranks, then the first one's load; of a load that fails nothing is left of them."""
        elsewhere = await self.spread.follow(plan.node, plan)
        try:
            return await self._ask_to_load(plan.node, evolve(request, elsewhere=elsewhere))
        except BaseException:
            await self.spread.unfollow(plan.node, plan.model)
            raise

    async def _ask_to_load(self, node: str, request: LoadRequest) -> ModelReport:
        """Have a node load something; do not wait for one that is gone, whose connection may never tell."""
        endpoint = self._endpoint(node)
        found: list[ModelReport | ControlError] = []  # not raised in the nursery, which would wrap it

        async def ask(scope: trio.CancelScope) -> None:
            try:
                found.append(await self.control.load(endpoint, request))
            except ControlError as error:
                found.append(error)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, nursery.cancel_scope)
            found.append(ControlError(await self._gone(node, endpoint)))
            nursery.cancel_scope.cancel()
        if isinstance(found[0], ControlError):
            raise found[0]
        return found[0]

    async def _gone(self, node: str, endpoint: str) -> str:
        """Return, with the reason, when a node has been down for a while or is not to be used any more."""
        down_since = math.inf
        while True:
            known = self.state.fleet.nodes.get(node)
            if known is None or known.endpoint != endpoint:
                return "the node is no longer in the topology"
            now = trio.current_time()
            down_since = math.inf if known.up else min(down_since, now)
            if now >= down_since + DOWN_SECONDS:
                return f"the node went down: {known.error}"
            await self.changed.wait_until(down_since + DOWN_SECONDS)

    async def unload(self, at: At, why: str, kind: str = "model.unloaded") -> None:
        """Unload a model once its requests have ended.

        Raises:
            BusyError: they did not, within ``cortex.eviction.drain``; it serves on.
            ControlError: the neuron did not do it.
        """
        await self._unload_all([at], why, kind)

    async def _unload_all(self, places: Sequence[At], why: str, kind: str) -> None:
        """Unload models of a node: none of them before the requests of all have ended, lest it was for nothing."""
        with self._drained(places):
            for node, model in places:
                self.tell(Happening("model.unloading", {"node": node, "model": model, "why": why}))
            await self._wait_until_idle(places)
            for node, model in places:
                await self._ask_to_unload((node, model))
                self.tell(Happening(kind, {"node": node, "model": model, "why": why}))

    async def _wait_until_idle(self, places: Sequence[At]) -> None:
        fleet, drain = self.state.fleet, self.state.fleet.topology.cortex.eviction.drain
        with trio.move_on_after(drain):
            while any(fleet.in_flight.get(at) for at in places):
                await self.changed.wait()
        for at in places:
            if left := fleet.in_flight.get(at):
                raise BusyError(f"'{at[1]}' there still has {left} request(s) after {drain:g} s")

    async def _ask_to_unload(self, at: At) -> None:
        node, model = at
        if self._is_gone(at):
            return  # somebody else was faster, and to ask once more would be about the next one of that name
        try:
            with trio.fail_after(UNLOAD_SECONDS):
                await self.control.unload(self._endpoint(node), model)
        except trio.TooSlowError:
            raise ControlError(f"'{model}' was not unloaded within {UNLOAD_SECONDS:g} s") from None
        finally:
            self._alter(node)  # done or not: who can tell what became of it
        self.state.unloaded(at)
        await self.spread.unfollow(node, model)

    def _is_gone(self, at: At) -> bool:
        node = self.state.fleet.nodes.get(at[0])
        return node is not None and node.up and node.model(at[1]) is None

    async def restart(self, node: str, device: str) -> None:
        """Have a device's worker begin anew, its models' requests waiting meanwhile; a refusal is no harm."""
        known = self.state.fleet.nodes.get(node)
        there = [(node, report.id) for report in (known.models if known else ()) if report.device == device]
        try:
            with self._drained(there), trio.fail_after(RESTART_SECONDS):
                await self.control.restart(self._endpoint(node), device)
        except (ControlError, trio.TooSlowError) as error:
            _log.warning("device.not_restarted", node=node, device=device, error=str(error) or "it takes too long")
        else:
            self.state.restarted(node, device)
            self.tell(Happening("device.restarted", {"node": node, "device": device}))
        finally:
            self._alter(node)

    def outdated(self, node: str | None = None) -> float | None:
        """Until when news of a node's memory, or of any node's, are worth waiting for; ``None``: what is known holds.

        Right after a load or an unload the state reckons with what the model itself holds. Buffers, graphs and what an
        allocator keeps show only when the node is looked at, and a load that does not fit is refused for a while.
        """
        now = trio.current_time()
        asked = [at for name, at in self._altered.items() if node in (None, name)]
        until = max(asked, default=-math.inf) + LOOK_SECONDS
        return until if until > now else None

    def looked(self, node: str, asked_at: float) -> bool:
        """A node was asked at that time; whether that brought news that somebody may wait for."""
        if asked_at < self._altered.get(node, math.inf):
            return False
        del self._altered[node]
        return True

    def _alter(self, node: str) -> None:
        """Something changed at a node, or may have."""
        self._altered[node] = trio.current_time()
        self.changed.ring()
        self.poke(node)

    @contextmanager
    def _drained(self, places: Sequence[At]) -> Iterator[None]:
        self._hold(places)
        try:
            yield
        finally:
            self._release(places)
            self.changed.ring()

    def _hold(self, places: Sequence[At]) -> None:
        """Give models no further requests. Counted: an operator may unload what is just about to make room."""
        self._drains.update(places)
        for at in places:
            self.state.drain(at, on=True)

    def _release(self, places: Sequence[At]) -> None:
        self._drains.subtract(places)
        for at in [at for at in places if self._drains[at] <= 0]:
            del self._drains[at]
            self.state.drain(at, on=False)

    def _endpoint(self, node: str) -> str:
        found = self.state.fleet.nodes.get(node)
        if found is None:
            raise ControlError(f"the node '{node}' is no longer in the topology")
        return found.endpoint

    def _say(self, kind: str, load: Load, **data: object) -> None:
        self.tell(Happening(kind, {"node": load.node, "device": load.device, "model": load.model, **data}))


def _victims(load: Load) -> list[At]:
    return [(load.node, model) for model in load.evicts]


def busy(error: BusyError | ControlError) -> errors.ApiError:
    """What an operator is told whose wish could not be met."""
    return errors.unavailable(f"{str(error)[:1].upper()}{str(error)[1:]}.", 5)
