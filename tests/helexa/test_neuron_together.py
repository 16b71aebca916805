"""Several generations as one: every news arrives once, under its number, however they are mixed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from engine_port import Submitted
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from helexa.neuron.ports import ChoiceNews, End
from helexa.neuron.together import Together
from helexa.wire.sampling import SamplingParams


def submit(parts: int, n: int) -> list[Submitted]:
    return [Submitted("m", [1], SamplingParams(n=n), "") for _ in range(parts)]


def together(parts: list[Submitted], n: int) -> Together:
    return Together(tuple(part.generation for part in parts), n)


@contextmanager
def soon() -> Iterator[None]:
    with trio.fail_after(5):
        yield


async def test_it_waits_for_whichever_comes_first() -> None:
    parts = submit(3, 1)
    whole = together(parts, 1)
    with soon():
        async with trio.open_nursery() as nursery:
            found: list[tuple[ChoiceNews, ...]] = []

            async def look() -> None:
                found.append(await whole.progress())

            nursery.start_soon(look)
            await wait_all_tasks_blocked()
            assert found == []
            parts[1].extend([7, 8])
        assert found == [(ChoiceNews(1, (7, 8)),)]


async def test_what_has_come_of_several_is_told_together_in_order() -> None:
    parts = submit(3, 2)
    whole = together(parts, 2)
    parts[2].extend([5], 0)
    parts[0].extend([6], 1)
    with soon():
        assert await whole.progress() == (ChoiceNews(1, (6,)), ChoiceNews(4, (5,)))


async def test_it_is_over_when_all_are() -> None:
    parts = submit(2, 1)
    whole = together(parts, 1)
    for part in parts:
        part.finish(End("stop"))
    with soon():
        assert [news.index for news in await whole.progress()] == [0, 1]
        assert await whole.progress() == ()


async def test_news_of_a_wait_that_was_cancelled_are_not_lost() -> None:
    parts = submit(2, 1)
    whole = together(parts, 1)
    with trio.move_on_after(0):
        await whole.progress()
    parts[0].extend([7])
    with soon():
        assert await whole.progress() == (ChoiceNews(0, (7,)),)


@pytest.mark.parametrize(("index", "expected"), [(0, (0, 0)), (2, (0, 2)), (3, (1, 0)), (5, (1, 2))])
def test_a_choice_is_stopped_where_it_is(index: int, expected: tuple[int, int]) -> None:
    parts = submit(2, 3)
    together(parts, 3).stop(index)
    part, choice = expected
    assert parts[part].aborts == [choice]
    assert parts[1 - part].aborts == []


def test_closing_closes_all_that_live() -> None:
    parts = submit(3, 1)
    parts[1].finish(End("stop"))
    together(parts, 1).close()
    assert [part.aborts for part in parts] == [[None], [], [None]]


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=20)


@given(STEPS)
def test_nothing_is_lost_or_told_twice(steps: list[tuple[int, int, bool]]) -> None:
    async def run() -> None:
        parts = submit(3, 2)
        whole = together(parts, 2)
        expected: dict[int, list[int]] = {index: [] for index in range(6)}
        found: dict[int, list[int]] = {index: [] for index in range(6)}
        ends: list[int] = []

        async def read() -> None:
            while news := await whole.progress():
                for each in news:
                    found[each.index] += each.ids
                    ends.extend([each.index] if each.end else [])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for token, (part, choice, pause) in enumerate(steps):
                parts[part].extend([token], choice)
                expected[2 * part + choice].append(token)
                if pause:
                    await wait_all_tasks_blocked()
            for part in parts:
                for choice in range(2):
                    part.finish(End("stop"), choice)
        assert found == expected
        assert sorted(ends) == list(range(6))

    trio.run(run)
