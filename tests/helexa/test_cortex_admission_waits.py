"""How long a wait is expected to be: whom that turns away, and what they are told; in virtual time."""

from functools import partial

import trio
from admissions import ANN, BOB, Crowd, key, retry_after
from trio.testing import MockClock

from config import Cortex
from config.units import Duration


async def test_who_would_wait_for_too_long_is_turned_away_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, queue_timeout=Duration(10)))
    await crowd.begin("warm", last=partial(trio.sleep, 3))
    await trio.sleep(4)
    for name in "abcdef":
        await crowd.begin(name, last=partial(trio.sleep, 3))
    assert (crowd.counts, list(crowd.refused)) == ((1, 3), ["e", "f"])
    assert "would for longer than the 10 s a request may" in str(crowd.refused["f"])
    assert retry_after(crowd.refused["f"]) == 12
    await trio.sleep(3 * 3 + 0.5)
    assert crowd.served == ["warm", "a", "b", "c", "d"]
    assert crowd.turned_away == {"expected_wait": 2}


async def test_a_key_of_which_little_waits_is_not_turned_away_for_what_others_wait(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, queue_timeout=Duration(10)))
    await crowd.begin("warm", last=partial(trio.sleep, 1))
    await trio.sleep(2)
    for number in range(12):
        await crowd.begin(f"a{number}", ANN, last=partial(trio.sleep, 1))
    assert "a11" in crowd.refused
    await crowd.begin("b", BOB, last=partial(trio.sleep, 1))
    await trio.sleep(2.5)
    assert "b" in crowd.served


async def test_a_key_at_its_own_limit_is_told_of_it_and_how_long_it_takes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_queue=3))
    slow = key("ann", most=2)
    for number in range(2):
        await crowd.begin(f"warm {number}", BOB, last=partial(trio.sleep, 0.01))
    await trio.sleep(1)
    for number in range(4):
        await crowd.begin(f"a{number}", slow, last=partial(trio.sleep, 20))
    await trio.sleep(20.5)  # two have ended, two are served, and from now on it is known how long they take
    for number in range(4, 8):
        await crowd.begin(f"a{number}", slow, last=partial(trio.sleep, 20))
    error = crowd.refused["a7"]
    assert "This API key may have 2 requests served at a time." in str(error)
    assert retry_after(error) == 40
    nursery.cancel_scope.cancel()


async def test_what_is_told_is_when_those_that_wait_have_been_served(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=4, max_queue=40))
    for number in range(8):
        await crowd.begin(f"warm {number}", last=partial(trio.sleep, 2))
    await trio.sleep(5)
    for number in range(45):
        await crowd.begin(f"{number}", last=partial(trio.sleep, 2))
    told = retry_after(crowd.refused["44"])
    await trio.sleep(told - 2.5)
    assert crowd.admission.figures().waiting > 0
    await trio.sleep(2.5)
    assert crowd.counts[1] == 0
    nursery.cancel_scope.cancel()


async def test_a_burst_that_starts_together_is_not_mistaken_for_a_standstill(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """One ending after thirty seconds is no rate of one in thirty: the others are about to end."""
    crowd = Crowd(nursery, Cortex(max_in_flight=100, queue_timeout=Duration(60)))
    for number in range(150):
        await crowd.begin(f"{number}", last=partial(trio.sleep, 30 + number / 100))
    await trio.sleep(30.005)
    await crowd.begin("late")
    assert not crowd.refused
    nursery.cancel_scope.cancel()


async def test_before_anything_has_ended_nobody_is_turned_away_on_a_guess(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    await crowd.begin("a")
    await crowd.begin("b")
    await trio.sleep(59)
    await crowd.begin("c")
    assert crowd.counts == (1, 2)
    nursery.cancel_scope.cancel()


async def test_at_a_standstill_nobody_begins_to_wait(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=2, queue_timeout=Duration(30)))
    await crowd.begin("warm", last=partial(trio.sleep, 1))
    await trio.sleep(2)
    for name in "abc":
        await crowd.begin(name)
        await trio.sleep(12)
    await crowd.begin("d")
    await trio.sleep(19)
    await crowd.begin("e")
    assert list(crowd.refused) == ["c", "e"]
    assert crowd.turned_away == {"queue_timeout": 1, "expected_wait": 1}
    nursery.cancel_scope.cancel()


async def test_nobody_is_told_to_wait_for_ever(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, max_queue=0))
    await crowd.begin("long", last=partial(trio.sleep, 80_000))
    await trio.sleep(80_001)
    await crowd.begin("a")
    await crowd.begin("b")
    assert retry_after(crowd.refused["b"]) == 3600
    nursery.cancel_scope.cancel()


async def test_a_long_night_with_nobody_waiting_turns_nobody_away(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    await crowd.begin("first", last=partial(trio.sleep, 1))
    await trio.sleep(80_000)
    await crowd.begin("a")
    await crowd.begin("b")
    assert (crowd.counts, crowd.refused) == ((1, 1), {})
    nursery.cancel_scope.cancel()
