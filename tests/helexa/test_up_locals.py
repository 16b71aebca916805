"""A host's neuron processes while the topology changes: real supervision, processes that only pretend."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trio
from attrs import define, evolve, field
from fleets import model, topology_of

from actors import Actor, Supervisor
from config import Topology, TopologyError, load
from config.address import Address
from helexa.up.locals import FILE, LocalNeurons


class Pretender(Actor):
    """Reads its topology when it starts, as the process does."""

    started: list[tuple[str, Topology]]

    def __init__(self, name: str, topology: str, env: Mapping[str, str], on_change: Callable[[], None]) -> None:
        self.name = f"neuron:{name}"
        self.env = env
        self._neuron, self._topology, self._on_change = name, topology, on_change

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.started.append((self._neuron, load(self._topology, env={})))
        task_status.started()
        self._on_change()
        try:
            await trio.sleep_forever()
        finally:
            self._on_change()


@define(eq=False)
class Host:
    neurons: LocalNeurons
    supervisor: Supervisor
    idle: dict[str, trio.Event] = field(factory=dict)
    changes: list[str] = field(factory=list)

    def running(self) -> list[str]:
        return [status.name for status in self.supervisor.status() if status.state == "running"]

    async def wait_idle(self, name: str) -> None:
        await self.idle.setdefault(name, trio.Event()).wait()

    async def have(self, topology: Topology) -> None:
        await self.neurons.stop(self.neurons.leaving(topology.neurons))
        self.neurons.complete(topology, topology.neurons)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Topology]]:
    """Which neurons were started, and what they read."""
    found: list[tuple[str, Topology]] = []
    monkeypatch.setattr(Pretender, "started", found, raising=False)
    monkeypatch.setattr("helexa.up.locals.NeuronProcess", Pretender)
    return found


@pytest.fixture
async def host(nursery: trio.Nursery, tmp_path: Path, started: list[tuple[str, Topology]]) -> Host:
    """A host that runs two neurons, `a` and `b`."""
    supervisor = Supervisor("test")
    await nursery.start(supervisor.run)

    async def idle(name: str) -> None:
        await host.wait_idle(name)

    changes: list[str] = []
    host = Host(LocalNeurons(tmp_path, supervisor, changes.append, idle), supervisor, changes=changes)
    topology = fleet()
    host.neurons.start(topology, topology.neurons)
    await trio.testing.wait_all_tasks_blocked()
    return host


def fleet(*names: str) -> Topology:
    """Neurons that listen at ports of their own."""
    topology = topology_of(*(names or "ab"))
    neurons = (evolve(each, listen=Address("127.0.0.1", 5000 + ord(each.name))) for each in topology.neurons)
    return evolve(topology, neurons=tuple(neurons))


def changed(topology: Topology, name: str, **settings: object) -> Topology:
    neurons = (evolve(each, **settings) if each.name == name else each for each in topology.neurons)  # type: ignore[misc]
    return evolve(topology, neurons=tuple(neurons))


async def test_they_start_with_a_copy_of_the_topology(
    host: Host, started: list[tuple[str, Topology]], tmp_path: Path
) -> None:
    assert sorted(name for name, _ in started) == ["a", "b"]
    assert started[0][1] == fleet()
    assert sorted(host.changes) == ["a", "b"]
    assert (tmp_path / FILE).is_file()


async def test_another_catalogue_restarts_nobody_and_is_what_the_next_start_reads(
    host: Host, started: list[tuple[str, Topology]], tmp_path: Path
) -> None:
    wanted = evolve(fleet(), models=(model("m"), model("n")))
    await host.have(wanted)
    assert len(started) == 2
    assert load(tmp_path / FILE, env={}) == wanted


async def test_one_that_joins_is_started(host: Host, started: list[tuple[str, Topology]]) -> None:
    await host.have(fleet("a", "b", "c"))
    assert sorted(host.running()) == ["neuron:a", "neuron:b", "neuron:c"]
    assert len(started) == 3


async def test_one_that_leaves_is_stopped_once_it_is_idle(nursery: trio.Nursery, host: Host) -> None:
    nursery.start_soon(host.have, fleet("a"))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(host.running()) == ["neuron:a", "neuron:b"]
    host.idle["b"].set()
    await trio.testing.wait_all_tasks_blocked()
    assert host.running() == ["neuron:a"]


@pytest.mark.parametrize("settings", [{"listen": Address("127.0.0.1", 7000)}, {"devices": ("cpu",)}, {"memory": 2**30}])
async def test_what_a_neuron_cannot_change_while_it_runs_has_it_start_anew(
    host: Host, started: list[tuple[str, Topology]], settings: dict[str, object]
) -> None:
    host.idle["b"] = trio.Event()
    host.idle["b"].set()
    await host.have(changed(fleet(), "b", **settings))
    assert [name for name, _ in started[2:]] == ["b"]
    assert started[-1][1].neurons[1] == evolve(fleet().neurons[1], **settings)


@pytest.mark.parametrize("settings", [{"endpoint": "http://elsewhere:1"}, {"preload": ("m",)}])
async def test_what_the_others_see_of_a_neuron_does_not_restart_it(
    host: Host, started: list[tuple[str, Topology]], settings: dict[str, object]
) -> None:
    await host.have(changed(fleet(), "b", **settings))
    assert len(started) == 2


async def test_several_that_leave_are_waited_for_side_by_side(nursery: trio.Nursery, host: Host) -> None:
    nursery.start_soon(host.have, fleet("c"))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(host.idle) == ["a", "b"]
    host.idle["b"].set()
    await trio.testing.wait_all_tasks_blocked()
    assert host.running() == ["neuron:a"]
    host.idle["a"].set()
    await trio.testing.wait_all_tasks_blocked()
    assert host.running() == ["neuron:c"]


async def test_one_that_left_may_come_back(host: Host, started: list[tuple[str, Topology]]) -> None:
    host.idle["b"] = trio.Event()
    host.idle["b"].set()
    await host.have(fleet("a"))
    await host.have(fleet())
    assert sorted(host.running()) == ["neuron:a", "neuron:b"]
    assert [name for name, _ in started[2:]] == ["b"]


async def test_a_topology_that_contradicts_itself_stops_nobody_by_itself(host: Host, tmp_path: Path) -> None:
    wrong = evolve(fleet(), aliases={"x": "nothing"})
    with pytest.raises(TopologyError):
        host.neurons.complete(wrong, wrong.neurons)
    assert sorted(host.running()) == ["neuron:a", "neuron:b"]
    assert load(tmp_path / FILE, env={}) == fleet()
