"""Making way for users."""

from collections.abc import Callable

import pytest
import trio
from attrs import evolve
from bench_targets import MODEL, REPORT, Canned, Reply, always, refused

from helexa.bench.measuring.guards import NeuronGuard
from helexa.bench.measuring.runner import USERS_CAME, Task, measure
from helexa.bench.measuring.session import Flight
from helexa.bench.records import Run
from helexa.bench.scenarios import parse

SHORT = "chat:prompt_tokens=64,output_tokens=4,requests=1"


@pytest.fixture
async def server(nursery: trio.Nursery) -> Canned:
    return await Canned().start(nursery)


def none() -> int:
    return 0


class When:
    """Says that others are there once an event has happened."""

    def __init__(self) -> None:
        self.event = trio.Event()

    async def others(self, own: Callable[[], int]) -> bool:
        del own
        await self.event.wait()
        return True


async def test_what_is_in_flight_is_broken_off_at_once(server: Canned) -> None:
    guard, gone = When(), trio.Event()

    async def forever(_server: Canned, _body: dict[str, object]) -> Reply:
        guard.event.set()
        try:
            await trio.sleep_forever()
        finally:
            gone.set()

    server.routes["/v1/completions"] = forever
    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "quality", "embeddings")]
    with trio.fail_after(10):
        found = await measure(tasks, 3, batch="b", guard=guard)
    assert [(run.outcome, run.reason) for run in found] == [("yielded", USERS_CAME)] * 3


async def test_what_has_ended_before_stays(server: Canned) -> None:
    guard = When()

    class Told:
        def began(self, task: Task, round: int) -> None:  # noqa: A002 - as watches have it
            """Nothing."""

        def sampled(self, task: Task, samples: object) -> None:
            """Nothing."""

        def ended(self, task: Task, run: Run) -> None:
            assert run.cell.model == task.model
            guard.event.set()

    tasks = [Task(server.access(), MODEL, parse(name)) for name in (SHORT, "quality")]
    found = await measure(tasks, 1, Told(), batch="b", guard=guard)
    assert [run.outcome for run in found] == ["ok", "yielded"]


async def test_a_measurement_does_not_make_way_for_itself(server: Canned) -> None:
    server.pause = 0.002
    tasks = [Task(server.access("neuron"), MODEL, parse("throughput:clients=6,output_tokens=64,requests=2"))]
    async with NeuronGuard(server.access("neuron")) as guard:
        (found,) = await measure(tasks, 2, batch="b", guard=guard)
    assert (found.outcome, server.most) == ("ok", 6)


async def test_it_makes_way_for_one_request_more_than_its_own(server: Canned) -> None:
    server.pause, server.beside = 0.01, 1
    tasks = [Task(server.access("neuron"), MODEL, parse(SHORT))]
    async with NeuronGuard(server.access("neuron")) as guard:
        (found,) = await measure(tasks, 500, batch="b", guard=guard)
    assert found.outcome == "yielded"


async def test_a_model_that_is_being_loaded_is_somebody_s_wish(server: Canned) -> None:
    async with NeuronGuard(server.access("neuron")) as guard:
        assert not await guard.others(none)
        server.report = evolve(REPORT, status="loading")
        assert await guard.others(none)


async def test_a_count_that_was_old_is_looked_at_twice(server: Canned) -> None:
    async with NeuronGuard(server.access("neuron")) as guard:
        server.beside = 1

        def own() -> int:
            server.beside = 0  # the neuron hears of it a little later
            return 0

        assert not await guard.others(own)


@pytest.mark.parametrize("answer", [refused("no", 500), Reply(b"{"), Reply(b'{"models": 3}')])
async def test_a_neuron_that_tells_nothing_breaks_nothing_off(server: Canned, answer: Reply) -> None:
    server.routes["/models"] = always(answer)
    async with NeuronGuard(server.access("neuron")) as guard:
        assert not await guard.others(none)


def test_what_was_in_flight_counts_for_a_second() -> None:
    now = [10.0]
    flight = Flight(clock=lambda: now[0])
    with flight, flight:
        assert (flight.count, flight.peak()) == (2, 2)
    now[0] = 10.9
    with flight:
        assert (flight.count, flight.peak()) == (1, 2)
        now[0] = 11.1
        assert flight.peak() == 1
    assert flight.peak() == 1
    now[0] = 12.2
    assert flight.peak() == 0
