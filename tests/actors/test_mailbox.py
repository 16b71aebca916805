"""A mailbox's promises: bounded, ordered, kept across restarts, and no asker waits for a dead actor."""

from collections import deque

import pytest
import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors import ActorDiedError, Ask, Mailbox, MailboxFullError


@frozen
class Double(Ask[int]):
    number: int


@frozen
class Note:
    text: str


async def asking(mailbox: Mailbox[Double], message: Double, results: list[object]) -> None:
    try:
        answer = await mailbox.ask(message)
        results.append(answer)
    except ActorDiedError as error:
        results.append(str(error))


async def test_messages_are_received_in_the_order_they_were_told() -> None:
    mailbox = Mailbox[Note]("x")
    for text in "abc":
        mailbox.tell(Note(text))
    assert mailbox.depth == 3
    assert [(await mailbox.receive()).text for _ in range(3)] == ["a", "b", "c"]
    assert mailbox.depth == 0


async def test_a_receiver_waits_for_the_next_message(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Note]("x")
    received: list[Note] = []

    async def read() -> None:
        received.extend([message async for message in mailbox])

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    mailbox.tell(Note("a"))
    await wait_all_tasks_blocked()
    assert received == []  # the comprehension still runs
    mailbox.close()
    await wait_all_tasks_blocked()
    assert received == [Note("a")]


def test_telling_a_full_mailbox_is_refused_and_keeps_what_is_there() -> None:
    mailbox = Mailbox[Note]("router", capacity=2)
    mailbox.tell(Note("a"))
    mailbox.tell(Note("b"))
    with pytest.raises(MailboxFullError, match="actor 'router' is full: 2 messages are unread"):
        mailbox.tell(Note("c"))
    assert mailbox.depth == 2


async def test_reading_makes_room_again() -> None:
    mailbox = Mailbox[Note]("x", capacity=1)
    mailbox.tell(Note("a"))
    await mailbox.receive()
    mailbox.tell(Note("b"))
    assert mailbox.depth == 1


def test_a_mailbox_without_room_for_one_message_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 message, not 0"):
        Mailbox[Note]("x", capacity=0)


async def test_a_cancelled_receive_takes_no_message() -> None:
    mailbox = Mailbox[Note]("x")
    mailbox.tell(Note("a"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.receive()
    assert scope.cancelled_caught
    assert await mailbox.receive() == Note("a")


async def test_a_receiver_cancelled_while_it_waits_leaves_the_mailbox_usable(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Note]("x")
    with trio.CancelScope() as scope:
        nursery.start_soon(wait_and_cancel, scope)
        await mailbox.receive()
    mailbox.tell(Note("a"))
    assert await mailbox.receive() == Note("a")


async def wait_and_cancel(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_second_reader_at_the_same_time_is_refused(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Note]("x")
    nursery.start_soon(mailbox.receive)
    await wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError, match="one reader"):
        await mailbox.receive()
    mailbox.tell(Note("for the first reader"))


async def test_an_asker_gets_the_answer(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")

    async def serve() -> None:
        async for message in mailbox:
            assert message.answer(message.number * 2)

    nursery.start_soon(serve)
    assert await mailbox.ask(Double(21)) == 42
    mailbox.close()


async def test_an_answer_may_come_many_messages_later_and_out_of_order(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")
    results: list[object] = []
    for number in range(3):
        nursery.start_soon(asking, mailbox, Double(number), results)
    held = [await mailbox.receive() for _ in range(3)]
    for message in sorted(held, key=lambda message: -message.number):
        message.answer(message.number)
        await wait_all_tasks_blocked()
    assert results == [2, 1, 0]


async def test_an_error_given_as_the_answer_is_raised_in_the_asker(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")

    async def serve() -> None:
        (await mailbox.receive()).fail(LookupError("no such model"))

    nursery.start_soon(serve)
    with pytest.raises(LookupError, match="no such model"):
        await mailbox.ask(Double(1))


async def test_none_is_an_answer_like_any_other(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Ask[None]]("x")
    finished: list[bool] = []

    async def ask() -> None:
        await mailbox.ask(Ask[None]())
        finished.append(True)

    nursery.start_soon(ask)
    (await mailbox.receive()).answer(None)
    await wait_all_tasks_blocked()
    assert finished == [True]


async def test_answering_twice_is_an_error(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")
    nursery.start_soon(asking, mailbox, Double(1), [])
    message = await mailbox.receive()
    assert message.answer(1)
    with pytest.raises(RuntimeError, match="answered once"):
        message.answer(2)
    await wait_all_tasks_blocked()
    with pytest.raises(RuntimeError, match="answered once"):
        message.fail(ValueError("late"))


async def test_asking_one_message_twice_is_an_error(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")
    message = Double(1)
    nursery.start_soon(asking, mailbox, message, [])
    (await mailbox.receive()).answer(1)
    await wait_all_tasks_blocked()
    with pytest.raises(RuntimeError, match="make a new one for each question"):
        await mailbox.ask(message)


async def test_equal_questions_get_their_own_answers(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")
    results: list[object] = []
    nursery.start_soon(asking, mailbox, Double(7), results)
    nursery.start_soon(asking, mailbox, Double(7), results)
    first, second = await mailbox.receive(), await mailbox.receive()
    assert first == second
    first.answer(1)
    mailbox.abandon("died")
    await wait_all_tasks_blocked()
    assert sorted(results, key=str) == [1, "actor 'x' died"]


async def test_an_asker_waits_for_room_and_overtakes_nobody(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Note | Double]("x", capacity=1)
    mailbox.tell(Note("first"))
    results: list[object] = []

    async def ask() -> None:
        answer = await mailbox.ask(Double(1))
        results.append(answer)

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert mailbox.depth == 1
    assert await mailbox.receive() == Note("first")
    with pytest.raises(MailboxFullError):  # the room that was freed belongs to the one who waits
        mailbox.tell(Note("pushing in"))
    message = await mailbox.receive()
    assert isinstance(message, Double)
    message.answer(5)
    await wait_all_tasks_blocked()
    assert results == [5]


async def test_an_asker_cancelled_while_it_waits_for_room_leaves_no_message() -> None:
    mailbox = Mailbox[Note | Double]("x", capacity=1)
    mailbox.tell(Note("only"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.ask, Double(1))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await mailbox.receive() == Note("only")
    assert mailbox.depth == 0
    mailbox.tell(Note("the room was not lost"))


async def test_a_cancelled_asker_leaves_a_message_that_says_so_and_drops_its_answer() -> None:
    mailbox = Mailbox[Double]("x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.ask, Double(1))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    message = await mailbox.receive()
    assert message.cancelled
    assert not message.answer(2)
    assert not message.fail(ValueError("nobody hears this"))


async def test_an_actor_sees_the_cancellation_before_the_asker_has_run() -> None:
    """Otherwise an answer that grants something would be taken for delivered, and what it grants would be lost."""
    mailbox = Mailbox[Double]("x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.ask, Double(1))
        message = await mailbox.receive()
        before = message.cancelled
        nursery.cancel_scope.cancel()
        assert (before, message.cancelled) == (False, True)
        assert not message.answer(2)


async def test_an_answer_given_before_the_cancellation_arrives() -> None:
    mailbox = Mailbox[Double]("x")
    results: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking, mailbox, Double(1), results)
        message = await mailbox.receive()
        assert message.answer(2)
        nursery.cancel_scope.cancel()
    assert results == [2]


async def test_actor_dies_with_a_message_in_process(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("ledger")
    results: list[object] = []
    nursery.start_soon(asking, mailbox, Double(1), results)
    message = await mailbox.receive()
    mailbox.abandon("died before it answered: ValueError: x")
    await wait_all_tasks_blocked()
    assert results == ["actor 'ledger' died before it answered: ValueError: x"]
    assert message.cancelled
    assert not message.answer(1)


async def test_the_error_names_the_actor(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("ledger")
    mailbox.close()
    with pytest.raises(ActorDiedError) as caught:
        await mailbox.ask(Double(1))
    assert caught.value.actor == "ledger"


async def test_unread_messages_survive_the_death_of_the_actor(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")
    results: list[object] = []
    for number in (1, 2):
        nursery.start_soon(asking, mailbox, Double(number), results)
    taken = await mailbox.receive()
    mailbox.abandon("died")
    unread = await mailbox.receive()
    assert {taken.number, unread.number} == {1, 2}
    assert unread.answer(unread.number)
    await wait_all_tasks_blocked()
    assert results == ["actor 'x' died", unread.number]


async def test_a_message_answered_before_the_death_keeps_its_answer(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x")
    results: list[object] = []
    nursery.start_soon(asking, mailbox, Double(1), results)
    (await mailbox.receive()).answer(10)
    mailbox.abandon("died")
    mailbox.close()
    await wait_all_tasks_blocked()
    assert results == [10]


async def test_closing_reaches_every_asker_wherever_its_message_is(nursery: trio.Nursery) -> None:
    mailbox = Mailbox[Double]("x", capacity=1)
    results: list[object] = []
    for number in range(4):  # one in process, one unread, two waiting for room
        nursery.start_soon(asking, mailbox, Double(number), results)
    await mailbox.receive()
    await wait_all_tasks_blocked()
    mailbox.close()
    await wait_all_tasks_blocked()
    assert results == ["actor 'x' has stopped"] * 4
    assert mailbox.depth == 0


async def test_a_closed_mailbox_refuses_everything() -> None:
    mailbox = Mailbox[Note | Double]("x")
    mailbox.tell(Note("dropped"))
    mailbox.close("has failed: ValueError: x")
    mailbox.close("again is fine")
    assert mailbox.closed
    with pytest.raises(ActorDiedError, match="actor 'x' has failed: ValueError: x"):
        mailbox.tell(Note("late"))
    with pytest.raises(ActorDiedError, match="has failed"):
        await mailbox.ask(Double(1))
    with pytest.raises(trio.EndOfChannel):
        await mailbox.receive()
    assert [message async for message in mailbox] == []


async def test_telling_a_question_is_allowed_and_its_answer_goes_nowhere() -> None:
    mailbox = Mailbox[Double]("x")
    mailbox.tell(Double(1))
    message = await mailbox.receive()
    mailbox.abandon("died")
    message.answer(2)


STEPS = st.tuples(st.sampled_from(["ask", "ask", "read", "answer", "crash"]), st.integers(0, 9))


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_in_any_order_of_events_every_asker_hears_exactly_once(script: list[tuple[str, int]]) -> None:
    trio.run(play, script)


async def play(script: list[tuple[str, int]]) -> None:
    """Play a script on a mailbox and beside it on plain lists."""
    mailbox = Mailbox[Double]("x", capacity=2)
    unread: deque[Double] = deque()
    held: list[Double] = []
    heard: dict[int, object] = {}
    expected: dict[int, object] = {}
    everyone: list[Double] = []  # keeps them alive: their identities are keys

    async def hear(message: Double) -> None:
        assert id(message) not in heard
        results: list[object] = []
        await asking(mailbox, message, results)
        [heard[id(message)]] = results

    async with trio.open_nursery() as nursery:
        for step, argument in script:
            if step == "ask":
                unread.append(Double(argument))
                everyone.append(unread[-1])
                nursery.start_soon(hear, unread[-1])
            elif step == "read" and unread:
                held.append(unread.popleft())
                assert await mailbox.receive() is held[-1]
            elif step == "answer" and held:
                message = held.pop(argument % len(held))
                assert message.answer(message.number * 2)
                expected[id(message)] = message.number * 2
            elif step == "crash":
                mailbox.abandon("died")
                expected.update({id(message): "actor 'x' died" for message in held})
                held.clear()
            await wait_all_tasks_blocked()
            assert heard == expected
            assert mailbox.depth == min(len(unread), mailbox.capacity)
        mailbox.close()
        expected.update({id(message): "actor 'x' has stopped" for message in [*unread, *held]})
    assert heard == expected
    assert len(heard) == len(everyone)
    assert mailbox._asked == {}
