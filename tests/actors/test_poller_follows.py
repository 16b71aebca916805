"""Watching neurons for long: what they need for models, nodes that come and go, and how often they are asked."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve
from fleets import model
from http_parts import start_app, until
from watching import GARBAGE, Neuron, Watching, start, topology, watching

from actors import poller as poller_module
from helexa.cortex.routing.state import NodeDown, NodeUp


@pytest.fixture
async def neuron(nursery: trio.Nursery) -> Neuron:
    return Neuron()


@pytest.fixture
async def url(nursery: trio.Nursery, neuron: Neuron) -> str:
    """A neuron that answers."""
    return f"http://127.0.0.1:{await start_app(nursery, neuron)}"


# estimates


async def estimates(watch: Watching) -> dict[str, int]:
    """What the next look that knows estimates knows."""
    while True:
        sight = await watch.up()
        if sight.sighting.estimates:
            return {name: estimate.weights_mb for name, estimate in sight.sighting.estimates.items()}


async def test_estimates_are_asked_for_once_per_start(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url, models=(model("m"), model("n"))))
    assert await estimates(watch) == {"m": 2, "n": 2}
    for _ in range(3):
        await watch.next_look()
    assert neuron.estimates == [["m", "n"]]
    neuron.health = evolve(neuron.health, uptime_seconds=1.0)
    first = await watch.next_look()
    assert first.sighting.estimates == {}
    assert await estimates(watch) == {"m": 4, "n": 4}


async def test_estimates_are_asked_for_again_when_the_catalogue_changes(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await estimates(watch)
    watch.poller.follow(topology(url, models=(model("m"),)))
    watch.poller.follow(topology(url, models=(model("n"),)))
    while (found := await estimates(watch)) != {"n": 2}:
        assert found == {"m": 1}
    assert neuron.estimates == [["m"], ["n"]]


async def test_without_a_catalogue_none_are_asked_for(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url))
    await watch.up()
    await watch.next_look()
    assert "/models/estimate" not in neuron.asked


async def test_slow_estimates_do_not_delay_looks(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.estimating = trio.Event()
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await watch.up()
    await until(lambda: neuron.estimates == [["m"]])
    for _ in range(3):
        assert isinstance(await watch.next_look(), NodeUp)
    assert neuron.estimates == [["m"]]
    neuron.estimating.set()
    assert await estimates(watch) == {"m": 1}


async def test_an_answer_about_the_last_catalogue_does_not_replace_one_about_this(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    first = neuron.estimating = trio.Event()
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await watch.up()
    await until(lambda: neuron.estimates == [["m"]])
    neuron.estimating = None
    watch.poller.follow(topology(url, models=(model("n"),)))
    assert await estimates(watch) == {"n": 2}
    first.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    sight = await watch.next_look()
    assert list(sight.sighting.estimates) == ["n"]


async def test_estimates_that_failed_are_asked_for_again_later(
    nursery: trio.Nursery, neuron: Neuron, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them everything seems to fit, and nothing would ever make room."""
    monkeypatch.setattr(poller_module, "ESTIMATE_AGAIN_SECONDS", 0.05)
    neuron.answers["/models/estimate"] = (503, b"")
    watch = await start(nursery, watching(url, models=(model("m"),), interval=0.02))
    await until(lambda: len(neuron.estimates) == 2)
    neuron.answers.clear()
    assert list(await estimates(watch)) == ["m"]


async def test_estimates_that_failed_are_not_asked_for_with_each_look(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    neuron.answers["/models/estimate"] = GARBAGE
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await watch.up()
    await until(lambda: neuron.estimates == [["m"]])
    for _ in range(3):
        assert isinstance(await watch.next_look(), NodeUp)
    assert neuron.estimates == [["m"]]


# another topology


async def test_a_node_that_joins_is_watched(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching())
    watch.poller.follow(topology(url))
    assert (await watch.up()).node == "n"
    assert isinstance(await watch.next_look(), NodeUp)


async def test_a_node_that_is_taken_out_is_left_alone(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url, interval=0.02))
    await watch.up()
    watch.poller.follow(topology())
    watch.router.suspect("n")
    await trio.testing.wait_all_tasks_blocked(0.05)
    neuron.asked.clear()
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert neuron.asked == []


async def test_a_look_under_way_at_a_node_that_is_taken_out_is_not_told(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    neuron.gate = trio.Event()
    watch = await start(nursery, watching(url))
    await neuron.arrived.wait()
    watch.poller.follow(topology())
    neuron.gate.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert watch.router.mailbox.depth == 0


async def test_a_node_that_moves_is_watched_where_it_is_now(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching("http://127.0.0.1:1"))
    await watch.down()
    watch.poller.follow(topology(url))
    await watch.up()
    assert isinstance(await watch.next_look(), NodeUp)


async def test_the_same_topology_once_more_changes_nothing(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await estimates(watch)
    neuron.asked.clear()
    watch.poller.follow(topology(url, models=(model("m"),)))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert neuron.asked == []


async def test_before_it_runs_there_is_nothing_to_follow_with(neuron: Neuron) -> None:
    watch = watching()
    watch.poller.follow(topology("http://127.0.0.1:1"))
    assert watch.router.mailbox.depth == 0


# what must not end the watch


@pytest.mark.parametrize("endpoint", ["http://☃", "http://a..b:80", "http://xn--zzzzzz99:1", "http://[v1.x]:1"])
async def test_a_url_that_only_the_topology_takes_is_a_node_that_is_down(
    nursery: trio.Nursery, neuron: Neuron, url: str, endpoint: str
) -> None:
    watch = await start(nursery, watching(endpoint, url))
    sights = [await watch.sight() for _ in range(2)]
    assert {sight.node: isinstance(sight, NodeUp) for sight in sights} == {"n": False, "o": True}


async def test_a_router_that_does_not_read_loses_sightings_and_nothing_else(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = watching(url, interval=0.01)
    for _ in range(watch.router.mailbox.capacity):
        watch.router.mailbox.tell(NodeDown("n", "an old one"))
    await start(nursery, watch)
    await until(lambda: neuron.asked.count("/health") >= 3)
    for _ in range(watch.router.mailbox.capacity):
        await watch.down()
    await watch.up()


# how often, with a clock of our own and looks that cost nothing


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """When each look was taken; all of them find nobody."""
    taken: list[float] = []

    async def look(watch: Any, _client: httpx.AsyncClient) -> NodeDown:
        taken.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return NodeDown(watch.node, "nobody")

    monkeypatch.setattr("actors.poller._Watch.look", look)
    return taken


async def test_one_that_stays_down_is_asked_less_and_less(
    nursery: trio.Nursery, looks: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    await start(nursery, watching("http://n", interval=2.0))
    await trio.sleep(100)
    gaps = [round(after - before) for before, after in pairwise(looks)]
    assert gaps[:6] == [2, 4, 8, 16, 16, 16]


async def test_a_poke_starts_the_backing_off_anew(
    nursery: trio.Nursery, looks: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    watch = await start(nursery, watching("http://n", interval=2.0))
    await trio.sleep(20)
    looks.clear()
    watch.router.suspect("n")
    await trio.sleep(7)
    gaps = [round(after - before) for before, after in pairwise(looks)]
    assert gaps == [2, 4]
