"""Groups over several neurons: asked for, mended when one has forgotten its rank, and let go of. Over real sockets."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from engine_port import FakeEngines
from fleets import model, neuron, sighting
from http_parts import start_app, until
from rank_port import FakeRanks
from structlog.testing import capture_logs

from actors import spread
from actors.control import ControlError, NeuronControl
from actors.spread import Spread
from config import Address, Topology
from helexa.cortex.routing.policy import ColdLoad
from helexa.cortex.routing.state import NodeDown, NodeUp, State
from helexa.neuron.app import make_app
from helexa.neuron.discovery import Host
from helexa.neuron.service import Service
from helexa.web.server import Drain
from helexa.wire.errors import ApiError
from helexa.wire.fleet import DeviceInfo, Discovery, ModelReport
from helexa.wire.ranks import Elsewhere, RankRequest

SECRET = "correct horse"
HOST = Host(Discovery("box", "Linux", None, (DeviceInfo(0, "cpu", "x86", 1000),)), None)
PLAN = ColdLoad("m", "helexa", "a", "cpu", others=(("b", "cpu"), ("c", "cpu"), ("c", "cpu:1")))
BUSY = ApiError(409, "The device 'cpu' has a rank of 'x/y'.", "invalid_request_error", "device_busy")


@define(eq=False)
class Hosts:
    """Three neurons, ``a``, ``b`` and ``c``, and what their gateway knows."""

    state: State
    spread: Spread
    ranks: dict[str, FakeRanks] = field(factory=dict)

    def see(self, node: str, *reports: ModelReport) -> None:
        self.state.see(NodeUp(node, sighting(*reports), self.state.fleet.clock()))

    def held(self) -> dict[str, list[tuple[str, str, int]]]:
        """Group, device and number of the ranks on each neuron that has any."""
        found = {name: [(*at, each.rank) for at, each in ranks.held.items()] for name, ranks in self.ranks.items()}
        return {name: sorted(each) for name, each in found.items() if each}


FOLLOWED = {"b": [("a/m", "cpu", 1)], "c": [("a/m", "cpu", 2), ("a/m", "cpu:1", 3)]}


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "LOOK_SECONDS", 0.01)


@pytest.fixture
async def hosts(nursery: trio.Nursery) -> AsyncIterator[Hosts]:
    ranks = {name: FakeRanks() for name in "abc"}
    neurons = []
    for index, (name, each) in enumerate(ranks.items(), 1):
        app = make_app(Service(FakeEngines(), {}.get), HOST, Drain(), SECRET, each)
        url = f"http://127.0.0.1:{await start_app(nursery, app)}"
        neurons.append(neuron(name, endpoint=url, interconnect=Address(f"10.0.0.{index}", 5)))
    async with NeuronControl(SECRET) as control:
        state = State(Topology(neurons=tuple(neurons), models=(model(),)), trio.current_time)
        found = Hosts(state, Spread(state, control), ranks)
        for name in ranks:
            found.see(name)
        yield found
        nursery.cancel_scope.cancel()


async def serving(hosts: Hosts) -> Elsewhere:
    """A group whose leader has the model."""
    found = await hosts.spread.follow("a", PLAN)
    hosts.see("a", ModelReport("m", "loaded", "cpu"))
    return found


async def looks(hosts: Hosts, number: int = 3) -> None:
    for _ in range(number):
        await hosts.spread._look()


async def test_each_node_is_asked_for_its_ranks_and_the_leader_told_how_many(hosts: Hosts) -> None:
    elsewhere = await hosts.spread.follow("a", PLAN)
    assert hosts.held() == FOLLOWED
    assert elsewhere == Elsewhere(3, "10.0.0.1", 5, elsewhere.token)
    first = hosts.ranks["b"].started[0]
    assert first == RankRequest("a/m", "cpu", 1, 4, "10.0.0.1", 5, elsewhere.token)


async def test_a_leader_with_several_devices_has_the_first_ranks(hosts: Hosts) -> None:
    await hosts.spread.follow("a", evolve(PLAN, device="cuda:0+cuda:1", others=(("b", "cuda:0"),)))
    request = hosts.ranks["b"].started[0]
    assert (request.rank, request.ranks) == (2, 3)


async def test_each_group_has_a_secret_of_its_own_that_nobody_can_read(hosts: Hosts, logs: list[Any]) -> None:
    first, second = await serving(hosts), await serving(hosts)
    assert len(first.token) == len(second.token) == 64
    assert first.token != second.token
    assert second.token not in repr(logs) + repr(hosts.state.fleet) + repr(hosts.spread)


async def test_what_one_node_refuses_none_is_left_to_run(hosts: Hosts) -> None:
    hosts.ranks["c"].broken = BUSY
    with pytest.raises(
        ControlError, match=r"c does not run rank . of it: The device 'cpu' has a rank of 'x/y'"
    ) as told:
        await hosts.spread.follow("a", PLAN)
    assert told.value.status == 409
    assert hosts.held() == {}


async def test_a_node_that_is_not_there_fails_it(hosts: Hosts) -> None:
    plan = evolve(PLAN, others=(("b", "cpu"), ("gone", "cpu")))
    with pytest.raises(ControlError, match="gone does not run rank 2 of it: the node 'gone' is no longer in the topo"):
        await hosts.spread.follow("a", plan)
    assert hosts.held() == {}


async def test_a_leader_that_others_cannot_reach_leads_nothing(hosts: Hosts) -> None:
    topology = hosts.state.fleet.topology
    alone = tuple(evolve(each, interconnect=None) for each in topology.neurons)
    hosts.state.apply(evolve(topology, neurons=alone), 0.0)
    with pytest.raises(ControlError, match="a has no interconnect address in the topology"):
        await hosts.spread.follow("a", PLAN)


async def test_a_node_that_takes_too_long_fails_it(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "ASK_SECONDS", 0.3)
    hosts.ranks["c"].gate = trio.Event()
    with pytest.raises(ControlError, match=r"c did not start rank . of it within 0\.3 s"):
        await hosts.spread.follow("a", PLAN)
    assert hosts.held() == {}


async def test_who_is_cancelled_while_it_asks_leaves_no_rank(hosts: Hosts) -> None:
    hosts.ranks["c"].gate = trio.Event()
    async with trio.open_nursery() as asking:
        asking.start_soon(hosts.spread.follow, "a", PLAN)
        await until(lambda: bool(hosts.ranks["b"].held))
        asking.cancel_scope.cancel()
    assert hosts.held() == {}


async def test_a_group_is_let_go_of(hosts: Hosts) -> None:
    await serving(hosts)
    await hosts.spread.unfollow("a", "m")
    assert hosts.held() == {}
    await hosts.spread.unfollow("a", "m")
    assert [ranks.stopped for ranks in hosts.ranks.values()] == [[], ["a/m"], ["a/m"]]


async def test_to_let_go_of_a_model_that_nobody_shares_asks_nobody(hosts: Hosts) -> None:
    async with hosts.spread.control:  # its client is closed with it: whoever asked now would be told so
        pass
    await hosts.spread.unfollow("a", "m")


async def test_a_neuron_that_has_forgotten_its_rank_is_asked_again(hosts: Hosts) -> None:
    await serving(hosts)
    first = hosts.ranks["b"].started[0]
    hosts.ranks["b"].held.clear()
    await looks(hosts)
    assert hosts.held() == FOLLOWED
    assert hosts.ranks["b"].started == [first, first]
    assert len(hosts.ranks["c"].started) == 2, "it has forgotten nothing"


async def test_a_group_that_recovers_gets_its_ranks_again(hosts: Hosts) -> None:
    await serving(hosts)
    hosts.see("a", ModelReport("m", "recovering", "cpu"))
    hosts.ranks["b"].held.clear()
    await looks(hosts)
    assert hosts.held() == FOLLOWED


async def test_a_rank_that_was_given_up_is_not_asked_for_again(hosts: Hosts) -> None:
    await serving(hosts)
    hosts.ranks["b"].status = "failed"
    await looks(hosts)
    assert len(hosts.ranks["b"].started) == 1


@pytest.mark.parametrize("there", [(), (ModelReport("m", "failed", "cpu"),)], ids=["gone", "failed"])
async def test_a_group_whose_leader_has_lost_the_model_is_ended(hosts: Hosts, there: tuple[ModelReport, ...]) -> None:
    await serving(hosts)
    hosts.see("a", *there)
    await looks(hosts)
    assert hosts.held() == {}
    await looks(hosts)
    assert len(hosts.ranks["b"].started) == 1, "and not mended"


async def test_ranks_of_a_leader_that_is_down_are_left_alone(hosts: Hosts) -> None:
    """It may only be this gateway that does not reach it."""
    await serving(hosts)
    hosts.state.see(NodeDown("a", "no answer"))
    await looks(hosts)
    assert hosts.held() == FOLLOWED


async def test_what_a_gateway_before_this_one_asked_for_is_ended_when_it_is_over(hosts: Hosts) -> None:
    await serving(hosts)
    anew = Hosts(hosts.state, Spread(hosts.state, hosts.spread.control), hosts.ranks)
    await looks(anew)
    assert anew.held() == FOLLOWED, "it is still in use"
    anew.see("a")
    await looks(anew)
    assert anew.held() == {}


async def test_a_group_is_not_ended_while_it_is_being_loaded(hosts: Hosts) -> None:
    hosts.state.begin(PLAN)
    await hosts.spread.follow("a", PLAN)
    await looks(hosts)
    assert hosts.held() == FOLLOWED


async def test_a_neuron_that_does_not_answer_keeps_no_other_from_being_looked_after(hosts: Hosts) -> None:
    await serving(hosts)
    topology = hosts.state.fleet.topology
    gone = tuple(evolve(each, endpoint="http://127.0.0.1:1") if each.name == "c" else each for each in topology.neurons)
    hosts.state.apply(evolve(topology, neurons=gone), 0.0)
    for name in "ab":
        hosts.see(name, *([ModelReport("m", "loaded", "cpu")] if name == "a" else []))
    hosts.ranks["b"].held.clear()
    await looks(hosts)
    assert "b" in hosts.held()
    await hosts.spread.unfollow("a", "m")
    assert set(hosts.held()) == {"c"}


async def test_it_is_tended_for_ever(hosts: Hosts, nursery: trio.Nursery) -> None:
    await serving(hosts)
    nursery.start_soon(hosts.spread.tend)

    def is_mended() -> bool:
        return hosts.held() == FOLLOWED

    for _ in range(2):
        hosts.ranks["b"].held.clear()
        await until(is_mended)


async def test_a_fleet_whose_hosts_share_nothing_asks_nobody(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    topology = hosts.state.fleet.topology
    alone = tuple(evolve(each, interconnect=None) for each in topology.neurons)
    hosts.state.apply(evolve(topology, neurons=alone), 0.0)
    asked: list[str] = []
    ask: Callable[..., Any] = lambda _, endpoint: asked.append(endpoint)  # noqa: E731 - a stand-in of one line
    monkeypatch.setattr(NeuronControl, "ranks", ask)
    await looks(hosts)
    assert not asked
