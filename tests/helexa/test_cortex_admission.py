"""Who is served, who waits, who is turned away; in virtual time."""

import pytest
import trio
from admissions import ANN, BOB, Crowd, key, retry_after
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from config import Cortex
from config.units import Duration
from helexa.cortex.exchange.admission import Admission
from helexa.wire.errors import ApiError


async def test_where_there_is_room_a_place_is_had_without_a_switch() -> None:
    admission = Admission(Cortex, lambda: None)
    for whose in (None, ANN):
        with assert_no_checkpoints():
            async with admission.place(whose) as place:
                assert admission.figures().in_flight == 1
        assert place.waited == 0.0
    figures = admission.figures()
    assert (figures.in_flight, figures.waiting, figures.waited, figures.waited_seconds) == (0, 0, 0, 0.0)
    assert figures.turned_away == {"queue_full": 0, "expected_wait": 0, "queue_timeout": 0}


async def test_more_than_may_be_served_wait_until_others_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd = Crowd(nursery)
    for name in "abcd":
        await crowd.begin(name)
    assert (crowd.served, crowd.counts) == (["a", "b"], (2, 2))
    await trio.sleep(3)
    await crowd.end("b")
    assert (crowd.served, crowd.counts) == (["a", "b", "c"], (2, 1))
    assert crowd.places["c"].waited == 3.0
    figures = crowd.admission.figures()
    assert (figures.waited, figures.waited_seconds) == (1, 3.0)
    nursery.cancel_scope.cancel()


async def test_a_place_is_given_back_whatever_happens() -> None:
    admission = Admission(lambda: Cortex(max_in_flight=1))
    with pytest.raises(ZeroDivisionError):
        async with admission.place(ANN):
            raise ZeroDivisionError
    with trio.CancelScope() as scope:
        async with admission.place(ANN):
            scope.cancel()
            await trio.sleep_forever()
    assert admission.figures().in_flight == 0


async def test_keys_take_turns(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    for name, whose in (("a1", ANN), ("a2", ANN), ("a3", ANN), ("a4", ANN), ("b1", BOB), ("b2", BOB)):
        await crowd.begin(name, whose)
    for _ in range(5):
        await crowd.end(crowd.served[-1])
    assert crowd.served == ["a1", "a2", "b1", "a3", "b2", "a4"]
    nursery.cancel_scope.cancel()


async def test_a_key_has_turns_by_its_weight(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    await crowd.begin("first")
    for number in range(9):
        await crowd.begin(f"a{number}", key("ann", weight=2))
        await crowd.begin(f"b{number}", BOB)
    for _ in range(9):
        await crowd.end(crowd.served[-1])
    assert sum(name.startswith("a") for name in crowd.served[1:]) == 6
    nursery.cancel_scope.cancel()


async def test_a_key_at_its_own_limit_waits_and_holds_nobody_up(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=3))
    limited = key("ann", most=1)
    for name, whose in (("a1", limited), ("a2", limited), ("b1", BOB), ("n1", None), ("b2", BOB)):
        await crowd.begin(name, whose)
    assert (crowd.served, crowd.counts) == (["a1", "b1", "n1"], (3, 2))
    await crowd.end("b1")
    assert crowd.served[-1] == "b2"
    await crowd.end("a1")
    assert crowd.served[-1] == "a2"
    nursery.cancel_scope.cancel()


async def test_one_that_could_go_is_not_turned_away_for_those_that_wait_for_their_own_limit(
    nursery: trio.Nursery,
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=3, max_queue=1))
    for name in ("a1", "a2"):
        await crowd.begin(name, key("ann", most=1))
    with assert_no_checkpoints():
        async with crowd.admission.place(BOB):
            pass
    nursery.cancel_scope.cancel()


async def test_what_keys_may_by_default(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(), default_most=1)
    for name, whose in (("a1", ANN), ("a2", ANN), ("n1", None), ("n2", None), ("c1", key("c", most=2))):
        await crowd.begin(name, whose)
    await crowd.begin("c2", key("c", most=2))
    assert crowd.served == ["a1", "n1", "n2", "c1", "c2"]
    nursery.cancel_scope.cancel()


async def test_who_leaves_while_it_waits_is_out_of_the_way(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    for name in "abc":
        await crowd.begin(name)
    crowd.scopes["b"].cancel()
    await wait_all_tasks_blocked()
    assert crowd.counts == (1, 1)
    await crowd.end("a")
    assert (crowd.served, crowd.counts) == (["a", "c"], (1, 0))
    nursery.cancel_scope.cancel()


async def test_who_leaves_when_its_turn_has_just_come_gives_it_to_the_next(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    for name in "abc":
        await crowd.begin(name)
    crowd.ends["a"].set()
    await trio.lowlevel.checkpoint()
    assert crowd.places["a"].waited == 0
    crowd.scopes["b"].cancel()
    await wait_all_tasks_blocked()
    assert crowd.counts == (1, 0)
    assert crowd.served[-1] in "bc"
    nursery.cancel_scope.cancel()


async def test_a_turn_and_a_cancellation_in_the_same_moment_lose_no_place(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    own = crowd.admission.place(None)
    await own.__aenter__()
    for name in "bc":
        await crowd.begin(name)
    crowd.scopes["b"].cancel()
    crowd.admission.leave(own)  # its turn has come, and it does not know yet
    await wait_all_tasks_blocked()
    assert crowd.counts == (1, 0)
    nursery.cancel_scope.cancel()


async def test_who_has_waited_for_as_long_as_may_be_is_told_when_to_come_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, queue_timeout=Duration(5.5)))
    await crowd.begin("a")
    await crowd.begin("b")
    await trio.sleep(5.4)
    assert crowd.counts == (1, 1)
    await trio.sleep(0.2)
    assert crowd.counts == (1, 0)
    assert "has waited for 5.5 s without its turn coming" in str(crowd.refused["b"])
    assert retry_after(crowd.refused["b"]) == 6  # nothing has ended for that long
    assert crowd.turned_away == {"queue_timeout": 1}
    nursery.cancel_scope.cancel()


async def test_a_timeout_leaves_the_others_their_turns(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, queue_timeout=Duration(5)))
    await crowd.begin("a")
    await crowd.begin("b")
    await trio.sleep(3)
    await crowd.begin("c")
    await trio.sleep(3)
    await crowd.end("a")
    assert crowd.served == ["a", "c"]
    nursery.cancel_scope.cancel()


async def test_a_full_queue_turns_away_at_once(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, max_queue=2))
    for name in "abcd":
        await crowd.begin(name, ANN)
    assert crowd.counts == (1, 2)
    assert "As many requests wait as may." in str(crowd.refused["d"])
    assert retry_after(crowd.refused["d"]) >= 1
    assert crowd.turned_away == {"queue_full": 1}
    nursery.cancel_scope.cancel()


async def test_without_a_queue_nobody_waits(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, max_queue=0))
    await crowd.begin("a", ANN)
    with assert_no_checkpoints(), pytest.raises(ApiError, match="As many requests wait"):
        async with crowd.admission.place(BOB):
            pass
    await crowd.end("a")
    async with crowd.admission.place(BOB):
        assert crowd.counts == (1, 0)


async def test_the_newest_of_who_waits_the_most_gives_way(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, max_queue=3))
    for name in ("a0", "a1", "a2", "a3"):
        await crowd.begin(name, ANN)
    await crowd.begin("b1", BOB)
    assert list(crowd.refused) == ["a3"]
    assert retry_after(crowd.refused["a3"]) >= 1
    await crowd.begin("b2", BOB)
    assert list(crowd.refused) == ["a3", "b2"]  # both wait as much now
    for _ in range(3):
        await crowd.end(crowd.served[-1])
    assert crowd.served == ["a0", "a1", "b1", "a2"]
    nursery.cancel_scope.cancel()


async def test_who_gives_way_to_the_only_newcomer_leaves_a_queue_that_works(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, max_queue=2))
    for name in ("a0", "a1", "a2"):
        await crowd.begin(name, key("ann"))
    await crowd.begin("b", key("bob", weight=9))
    assert (list(crowd.refused), crowd.counts) == (["a2"], (1, 2))
    for _ in range(2):
        await crowd.end(crowd.served[-1])
    assert sorted(crowd.served) == ["a0", "a1", "b"]
    nursery.cancel_scope.cancel()


async def test_the_last_that_waits_may_give_way(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, max_queue=1))
    await crowd.begin("n")
    await crowd.begin("a", key("ann", weight=1))
    await crowd.begin("b", key("bob", weight=9))
    assert list(crowd.refused) == ["a"]
    await crowd.end("n")
    assert crowd.served == ["n", "b"]
    nursery.cancel_scope.cancel()


async def test_a_limit_that_is_raised_counts_within_a_second(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    for name in "abcd":
        await crowd.begin(name)
    crowd.set(max_in_flight=3)
    await trio.sleep(1.1)
    assert (set(crowd.served), crowd.counts) == (set("abc"), (3, 1))
    nursery.cancel_scope.cancel()


async def test_a_limit_that_is_raised_is_seen_by_who_comes_and_those_that_wait_go_first(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1))
    for name in "ab":
        await crowd.begin(name)
    crowd.set(max_in_flight=2)
    await crowd.begin("c")
    assert (crowd.served, crowd.counts) == (["a", "b"], (2, 1))
    nursery.cancel_scope.cancel()


async def test_a_limit_that_is_lowered_cuts_nobody_off(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=3))
    for name in "abcd":
        await crowd.begin(name)
    crowd.set(max_in_flight=1)
    for name in "ab":
        await crowd.end(name)
    assert (crowd.served, crowd.counts) == (["a", "b", "c"], (1, 1))
    await crowd.end("c")
    assert crowd.served[-1] == "d"
    nursery.cancel_scope.cancel()


async def test_a_wait_that_is_allowed_to_be_longer_or_shorter(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd = Crowd(nursery, Cortex(max_in_flight=1, queue_timeout=Duration(4)))
    for name in "ab":
        await crowd.begin(name)
    crowd.set(queue_timeout=Duration(8))
    await trio.sleep(7.9)
    assert crowd.counts == (1, 1)
    await crowd.begin("c")
    crowd.set(queue_timeout=Duration(1))
    await trio.sleep(1.1)
    assert crowd.counts == (1, 0)
    assert set(crowd.refused) == {"b", "c"}
    nursery.cancel_scope.cancel()


async def test_a_key_that_may_have_more_from_now_on(nursery: trio.Nursery) -> None:
    crowd = Crowd(nursery, Cortex())
    for name in ("a1", "a2", "a3"):
        await crowd.begin(name, key("ann", most=1))
    assert crowd.served == ["a1"]
    await crowd.begin("a4", key("ann", most=3))
    assert crowd.counts == (3, 1)
    assert set(crowd.served) == {"a1", "a2", "a3"}
    nursery.cancel_scope.cancel()


async def test_two_thousand_requests_over_twenty_keys_never_exceed_a_limit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    settings = Cortex(max_in_flight=30, max_queue=1000, queue_timeout=Duration(1000))
    admission = Admission(lambda: settings)
    most, now, peak, done = 3, [0] * 20, 0, 0

    async def request(number: int) -> None:
        nonlocal peak, done
        who = number % 20
        try:
            async with admission.place(key(str(who), weight=who + 1, most=most)):
                now[who] += 1
                peak = max(peak, sum(now))
                assert now[who] <= most
                await trio.sleep(0.01 * (number % 7))
                now[who] -= 1
                done += 1
        except ApiError:
            pass

    async with trio.open_nursery() as requests:
        for number in range(2000):
            requests.start_soon(request, number)
    figures = admission.figures()
    assert (figures.in_flight, figures.waiting, peak) == (0, 0, 30)
    assert done + sum(figures.turned_away.values()) == 2000
    assert done >= 1000


async def test_waiting_is_a_switch(autojump_clock: MockClock) -> None:
    admission = Admission(lambda: Cortex(max_in_flight=1, queue_timeout=Duration(5)))
    async with admission.place(None):
        with assert_checkpoints(), pytest.raises(ApiError):
            async with admission.place(None):
                pass
