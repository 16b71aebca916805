"""Many clients at a fleet that loads, evicts, restarts, crashes, loses nodes and is edited, in virtual time."""

import random

import pytest
import trio
from attrs import define, evolve, field
from simulated import Caller, Simulation, cortex, simulate
from trio.testing import MockClock

from actors import Supervisor
from actors.evictor import Evictor
from actors.lifecycle import Lifecycle
from config import RestartPolicy
from helexa.cortex.ports import Grant
from helexa.wire.errors import ApiError
from helexa.wire.fleet import LoadRequest, ModelReport

SECONDS = 600
LOAD_TIMEOUT = 200.0
NEEDS = {"l": 900, "m": 600, "n": 300, "o": 100}
OPTIONS = {"residency": 5.0, "drain": 30.0, "idle_ttl": 40.0, "defrag_after_cycles": 5}


@define(eq=False)
class Watchful:
    """Neurons that notice when something is taken from under a request."""

    fleet: Simulation
    noticed: list[object] = field(factory=list)

    async def load(self, endpoint: str, request: LoadRequest) -> ModelReport:
        return await self.fleet.load(endpoint, request)

    async def unload(self, endpoint: str, name: str) -> None:
        self._check(endpoint, name)
        await self.fleet.unload(endpoint, name)
        self._check(endpoint, name)

    async def restart(self, endpoint: str, device: str) -> None:
        self._check(endpoint)
        await self.fleet.restart(endpoint, device)
        self._check(endpoint)

    def _check(self, endpoint: str, name: str | None = None) -> None:
        node = endpoint.removeprefix("http://").partition(":")[0]
        self.noticed += [at for at in self.fleet.router.fleet().in_flight if at[0] == node and name in (None, at[1])]


@define(eq=False)
class Chaos:
    fleet: Simulation
    rng: random.Random
    granted: int = 0
    waits: list[float] = field(factory=list)

    async def client(self, rng: random.Random) -> None:
        while trio.current_time() < SECONDS:
            caller = Caller(self.fleet.router, rng.choice(list(NEEDS)))
            began = trio.current_time()
            with trio.move_on_after(rng.choice([1e9, 1e9, 20])):  # some do not wait for long
                await caller.run()
                self.waits.append(trio.current_time() - began)
            if isinstance(caller.got, Grant):
                self.granted += 1
                await trio.sleep(rng.expovariate(0.2))
                self.fleet.router.release(caller.got)
            await trio.sleep(rng.expovariate(0.1))

    async def operator(self) -> None:
        lifecycle = Lifecycle(self.fleet.router)
        deeds = [self.crash, self.lose, self.fail, self.edit, self.load, self.unload, self.pin]
        while trio.current_time() < SECONDS:
            await trio.sleep(self.rng.expovariate(1 / 15))
            try:
                await self.rng.choice(deeds)(lifecycle, self.rng.choice("ab"), self.rng.choice(list(NEEDS)))
            except ApiError as error:
                assert error.status in {400, 502, 503}  # noqa: PT017 - any of them may come

    async def crash(self, *_: object) -> None:
        self.fleet.router.mailbox.tell(None)  # type: ignore[arg-type]

    async def lose(self, _: Lifecycle, node: str, __: str) -> None:
        self.fleet.lose(node)
        await trio.sleep(self.rng.choice([1, 5, 40]))
        self.fleet.look(node)

    async def fail(self, _: Lifecycle, __: str, name: str) -> None:
        self.fleet.faults[name] = "no such file"
        await trio.sleep(10)
        self.fleet.faults.clear()

    async def edit(self, *_: object) -> None:
        whole = self.fleet.router.fleet().topology
        self.fleet.router.apply(evolve(whole, neurons=whole.neurons[:1]))
        await trio.sleep(10)
        self.fleet.router.apply(whole)
        self.fleet.look("b")

    async def load(self, lifecycle: Lifecycle, node: str, name: str) -> None:
        await lifecycle.load(name, self.rng.choice([None, node]))

    async def unload(self, lifecycle: Lifecycle, _: str, name: str) -> None:
        await lifecycle.unload(name, None)

    async def pin(self, lifecycle: Lifecycle, _: str, name: str) -> None:
        lifecycle.pin(name, None, pinned=True)
        await trio.sleep(20)
        lifecycle.pin(name, None, pinned=False)

    async def poll(self) -> None:
        while True:
            await trio.sleep(2)
            for node in [node.name for node in self.fleet.router.fleet().nodes.values() if node.up]:
                self.fleet.look(node)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self.fleet.attach(nursery)
            nursery.start_soon(self.poll)
            supervisor = Supervisor("test")
            await nursery.start(supervisor.run)
            await supervisor.start(self.fleet.router, RestartPolicy(max=1000))
            await supervisor.start(Evictor(self.fleet.router), RestartPolicy(max=0))
            async with trio.open_nursery() as clients:
                clients.start_soon(self.operator)
                for _ in range(12):
                    clients.start_soon(self.client, random.Random(self.rng.random()))
            await trio.sleep(300)  # what is under way ends
            self.fleet.settled()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_nobody_is_lost_and_nothing_is_taken_from_under_a_request(autojump_clock: MockClock, seed: int) -> None:
    fleet = simulate(dict(NEEDS), {"a": set(), "b": set()}, cortex=cortex(LOAD_TIMEOUT, **OPTIONS))
    fleet.seconds = 3.0
    watchful = Watchful(fleet)
    fleet.router.loads.control = watchful  # type: ignore[assignment] # the port to the neurons
    chaos = Chaos(fleet, random.Random(seed))
    await chaos.run()
    assert watchful.noticed == []
    assert chaos.granted > 200
    assert max(chaos.waits) <= LOAD_TIMEOUT
    assert {"model.loaded", "model.evicted"} <= set(fleet.kinds())
