"""A request seen from the neuron: nothing is lost, nobody waits, an early close is the abort."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.generation import LiveGeneration
from helexa.neuron.ports import End, Progress

STOP = End("stop")


@pytest.fixture
def aborts() -> list[str]:
    return []


@pytest.fixture
def generation(aborts: list[str]) -> LiveGeneration:
    return LiveGeneration(lambda: aborts.append("abort"))


async def test_what_came_while_nobody_looked_arrives_together(generation: LiveGeneration) -> None:
    generation.extend([1])
    generation.extend([2, 3])
    assert await generation.progress() == Progress((1, 2, 3), None)


async def test_tokens_and_end_may_come_together(generation: LiveGeneration) -> None:
    generation.extend([1])
    generation.finish(STOP)
    assert await generation.progress() == Progress((1,), STOP)


async def test_the_end_can_be_read_again(generation: LiveGeneration) -> None:
    generation.finish(STOP)
    await generation.progress()
    assert await generation.progress() == Progress((), STOP)


async def test_a_reader_waits_for_news(generation: LiveGeneration) -> None:
    seen: list[Progress] = []

    async def read() -> None:
        while (progress := await generation.progress()).end is None:
            seen.append(progress)
        seen.append(progress)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert seen == []
        for token in (1, 2):
            generation.extend([token])
            await wait_all_tasks_blocked()
        generation.finish(STOP)
    assert seen == [Progress((1,), None), Progress((2,), None), Progress((), STOP)]


async def test_a_cancelled_look_loses_nothing(generation: LiveGeneration) -> None:
    with trio.move_on_after(0):
        await generation.progress()
    generation.extend([1])
    assert await generation.progress() == Progress((1,), None)


def test_closing_early_aborts_once(generation: LiveGeneration, aborts: list[str]) -> None:
    generation.close()
    generation.close()
    assert aborts == ["abort"]


def test_closing_after_the_end_aborts_nothing(generation: LiveGeneration, aborts: list[str]) -> None:
    generation.finish(STOP)
    generation.close()
    assert aborts == []
