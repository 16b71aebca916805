"""What a supervisor promises, on a virtual clock: restarts within a budget, order, and that nothing is swallowed."""

import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import NoReturn

import pytest
import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    Actor,
    ActorDiedError,
    ActorReturnedError,
    ActorStatus,
    ActorStoppedError,
    Ask,
    EscalationError,
    Mailbox,
    Supervisor,
    SupervisorNotRunningError,
    UnknownActorError,
    error_line,
)
from actors.supervisor import ForgivenError
from config import RestartPolicy
from config.units import Duration

Life = Callable[[Callable[[], None]], Awaitable[None]]
"""One run of an actor; it is given what reports `started`."""


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Scripted(Actor):
    """Lives the given lives, one per run, and serves for ever in every run after them."""

    def __init__(self, name: str, *lives: Life) -> None:
        self.name = name
        self.lives = list(lives)
        self.began: list[float] = []
        self.ended: list[float] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.began.append(trio.current_time())
        life = self.lives.pop(0) if self.lives else serve
        try:
            await life(task_status.started)
        finally:
            self.ended.append(trio.current_time())


class Echo(Actor):
    """Answers questions until it is asked to crash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mailbox: Mailbox[Question] = Mailbox(name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for question in self.mailbox:
            if question.text == "crash":
                raise ValueError("asked to crash")
            question.answer(question.text)


@frozen
class Question(Ask[str]):
    text: str


async def serve(started: Callable[[], None]) -> None:
    started()
    await trio.sleep_forever()


def crash_after(seconds: float, error: BaseException | None = None) -> Life:
    async def life(started: Callable[[], None]) -> None:
        started()
        await trio.sleep(seconds)
        raise error or ValueError("crash")

    return life


def fail_to_start(error: BaseException) -> Life:
    async def life(_started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return life


def policy(restarts: int = 3, window: float = 60.0, backoff: float = 1.0) -> RestartPolicy:
    return RestartPolicy(max=restarts, window=Duration(window), backoff=Duration(backoff))


def supervisor(**options: object) -> Supervisor:
    return Supervisor("test", rng=NoJitter(), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(overseer: Supervisor) -> AsyncIterator[Supervisor]:
    async with trio.open_nursery() as nursery:
        await nursery.start(overseer.run)
        yield overseer
        nursery.cancel_scope.cancel()


def only(overseer: Supervisor) -> ActorStatus:
    [status] = overseer.status()
    return status


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def errors_of(overseer: Supervisor, *actors: Actor, restarts: int = 0) -> list[BaseException]:
    """What a supervisor of these actors ends with."""
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(overseer.run)
            for actor in actors:
                overseer.spawn(actor, policy(restarts))
    except BaseExceptionGroup as group:
        return leaves(group)
    pytest.fail("the supervisor did not raise")


class Spawn(trio.TaskStatus[None]):
    """Spawns actors when the supervisor has started, for one that is awaited directly."""

    def __init__(self, overseer: Supervisor, *actors: Actor, restarts: int = 3) -> None:
        self.overseer, self.actors, self.restarts = overseer, actors, restarts

    def started(self, _value: None = None) -> None:
        for actor in self.actors:
            self.overseer.spawn(actor, policy(self.restarts))


# Starting


async def test_start_returns_when_the_actor_reports_started(autojump_clock: MockClock) -> None:
    async def slow(started: Callable[[], None]) -> None:
        await trio.sleep(7)
        await serve(started)

    async with running(supervisor()) as overseer:
        begin = trio.current_time()
        await overseer.start(Scripted("a", slow), policy())
        assert trio.current_time() - begin == 7
        assert only(overseer).state == "running"


async def test_spawn_does_not_wait(autojump_clock: MockClock) -> None:
    async with running(supervisor()) as overseer:
        overseer.spawn(Scripted("a"), policy())
        assert only(overseer).state == "starting"
        await wait_all_tasks_blocked()
        assert only(overseer).state == "running"


async def test_start_outlasts_crashes_within_the_budget(autojump_clock: MockClock) -> None:
    actor = Scripted("a", fail_to_start(ValueError("1")), fail_to_start(ValueError("2")))
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy())
        assert only(overseer).restarts == 2


async def test_actor_that_cannot_start_fails_its_starter_and_nothing_else(autojump_clock: MockClock) -> None:
    errors = [ValueError(str(number)) for number in range(3)]
    actor = Scripted("a", *map(fail_to_start, errors))
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("other"), policy())
        with pytest.raises(ValueError, match=r"^2$") as caught:
            await overseer.start(actor, policy(restarts=2))
        assert caught.value is errors[2]
        await trio.sleep(100)
        assert [status.state for status in overseer.status()] == ["running", "failed"]


async def test_spawned_actor_that_cannot_start_escalates(autojump_clock: MockClock) -> None:
    [error] = await errors_of(supervisor(), Scripted("a", fail_to_start(ValueError("no"))))
    assert isinstance(error, EscalationError)


async def test_actor_that_started_once_escalates_although_somebody_awaited_its_start(autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await start_and_wait(Scripted("a", crash_after(5)))
    assert [type(leaf) for leaf in leaves(caught.value)] == [EscalationError]


async def start_and_wait(actor: Actor) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=0))
        await trio.sleep(100)


async def test_cancelling_start_stops_the_actor(autojump_clock: MockClock) -> None:
    async def never(_started: Callable[[], None]) -> None:
        await trio.sleep_forever()

    actor = Scripted("a", never)
    async with running(supervisor()) as overseer:
        with trio.move_on_after(3) as scope:
            await overseer.start(actor, policy())
        assert scope.cancelled_caught
        assert (only(overseer).state, len(actor.ended)) == ("stopped", 1)


async def test_start_of_an_actor_that_is_stopped_meanwhile_does_not_hang(nursery: trio.Nursery) -> None:
    async def never(_started: Callable[[], None]) -> None:
        await trio.sleep_forever()

    async with running(supervisor()) as overseer:

        async def stop() -> None:
            await wait_all_tasks_blocked()
            await overseer.stop("a")

        nursery.start_soon(stop)
        with pytest.raises(ActorStoppedError, match="actor 'a' was stopped before it had started"):
            await overseer.start(Scripted("a", never), policy())


async def test_a_supervisor_that_does_not_run_takes_no_actors() -> None:
    overseer = supervisor()
    with pytest.raises(SupervisorNotRunningError, match="supervisor 'test' is not running; it takes no actor 'a'"):
        overseer.spawn(Scripted("a"), policy())
    async with running(overseer):
        pass
    with pytest.raises(SupervisorNotRunningError):
        await overseer.start(Scripted("a"), policy())
    with pytest.raises(SupervisorNotRunningError, match="make a new one"):
        await overseer.run()


async def test_two_live_actors_of_one_name_are_refused() -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a"), policy())
        with pytest.raises(ValueError, match="has an actor 'a'; stop that one first"):
            overseer.spawn(Scripted("a"), policy())


async def test_the_name_of_a_stopped_actor_can_be_used_again() -> None:
    async with running(supervisor()) as overseer:
        for name in "ab":
            await overseer.start(Scripted(name), policy())
        await overseer.stop("a")
        await overseer.start(Scripted("a"), policy())
        assert [(status.name, status.state) for status in overseer.status()] == [("b", "running"), ("a", "running")]


async def test_an_actor_that_reports_started_twice_has_crashed(autojump_clock: MockClock) -> None:
    async def twice(started: Callable[[], None]) -> None:
        started()
        started()

    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", twice), policy())
        assert only(overseer).last_error == ("RuntimeError: an actor called 'started' twice on the same task status")


# Restarting


async def test_a_crashed_actor_is_restarted_after_the_backoff(autojump_clock: MockClock) -> None:
    actor = Scripted("a", crash_after(10))
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(backoff=2))
        begin = trio.current_time()
        await trio.sleep(11)
        assert only(overseer).state == "backoff"
        await trio.sleep(2)
        status = only(overseer)
        assert (status.state, status.restarts, status.last_error) == ("running", 1, "ValueError: crash")
        assert [at - begin for at in actor.began] == [0, 12]


async def test_an_actor_that_returns_is_restarted_like_one_that_crashed(autojump_clock: MockClock) -> None:
    async def returns(started: Callable[[], None]) -> None:
        started()

    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", returns), policy())
        await trio.sleep(5)
        status = only(overseer)
        assert (status.state, status.restarts) == ("running", 1)
        assert status.last_error == "ActorReturnedError: actor 'a' returned; it may only end by being cancelled"


async def test_an_actor_that_always_returns_escalates_with_that_as_the_cause(autojump_clock: MockClock) -> None:
    async def returns(_started: Callable[[], None]) -> None:
        pass

    [error] = await errors_of(supervisor(), Scripted("a", *[returns] * 4), restarts=3)
    assert isinstance(error.__cause__, ActorReturnedError)


async def test_the_backoff_doubles_up_to_thirty_seconds(autojump_clock: MockClock) -> None:
    actor = Scripted("a", *[fail_to_start(ValueError("x"))] * 8)
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=100, window=3600))
        gaps = [later - earlier for earlier, later in zip(actor.began, actor.began[1:], strict=False)]
        assert gaps == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_the_backoff_starts_over_after_a_long_time_up(autojump_clock: MockClock) -> None:
    lives = [crash_after(1), crash_after(1), crash_after(61), crash_after(1)]
    actor = Scripted("a", *lives)
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=3, window=60))
        await trio.sleep(200)
        delays = [began - ended for ended, began in zip(actor.ended, actor.began[1:], strict=False)]
        assert delays == [1, 2, 1, 2]


async def test_the_time_an_actor_takes_to_start_does_not_count_as_up(autojump_clock: MockClock) -> None:
    async def slow_failure(_started: Callable[[], None]) -> None:
        await trio.sleep(100)
        raise ValueError("x")

    actor = Scripted("a", slow_failure, slow_failure, slow_failure)
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=3, window=60))
        delays = [began - ended for ended, began in zip(actor.ended, actor.began[1:], strict=False)]
        assert delays == [1, 2, 4]


async def test_one_restart_too_many_escalates_with_the_last_error_as_cause(autojump_clock: MockClock) -> None:
    errors = [ValueError(str(number)) for number in range(3)]
    actor = Scripted("a", *(crash_after(1, error) for error in errors))
    [error] = await errors_of(supervisor(), actor, restarts=2)
    assert isinstance(error, EscalationError)
    assert error.__cause__ is errors[2]
    assert error.actor == "a"
    assert str(error) == (
        "actor 'a' of supervisor 'test' crashed more than 2 times in 60 s; its last error was ValueError: 2"
    )


async def test_escalation_is_raised_bare_to_whoever_awaits_the_supervisor(autojump_clock: MockClock) -> None:
    overseer = supervisor()
    with pytest.raises(EscalationError):
        await overseer.run(task_status=Spawn(overseer, Scripted("a", crash_after(1)), restarts=0))


async def test_escalation_stops_the_other_actors_first(autojump_clock: MockClock) -> None:
    overseer, other = supervisor(), Scripted("other")
    await errors_of(overseer, other, Scripted("a", crash_after(1)))
    assert len(other.ended) == 1
    assert [status.state for status in overseer.status()] == ["stopped", "failed"]


async def test_actor_that_may_not_escalate_fails_alone(autojump_clock: MockClock) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("other"), policy())
        overseer.spawn(Scripted("a", *[crash_after(1)] * 2), policy(restarts=1), escalate=False)
        await trio.sleep(100)
        assert [status.state for status in overseer.status()] == ["running", "failed"]


async def test_an_end_that_is_forgiven_leaves_the_budget_as_it_was(autojump_clock: MockClock) -> None:
    actor = Scripted("a", *[crash_after(1, ForgivenError("a guest's fault"))] * 5, crash_after(1))
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=1))
        await trio.sleep(100)
        assert [round(after - before) for before, after in pairwise(actor.began)] == [2] * 6
        assert (only(overseer).state, only(overseer).restarts) == ("running", 6)
        assert only(overseer).last_error == "ValueError: crash"


async def test_when_a_second_actor_fails_meanwhile_the_first_is_what_escalates(autojump_clock: MockClock) -> None:
    actors = Scripted("second", crash_after(2)), Scripted("first", crash_after(1)), Scripted("slow", cleanup_of(5))
    overseer = supervisor()
    [error] = await errors_of(overseer, *actors)
    assert isinstance(error, EscalationError)
    assert error.actor == "first"
    assert [status.state for status in overseer.status()] == ["failed", "failed", "stopped"]


async def test_crashes_spread_wider_than_the_window_never_escalate(autojump_clock: MockClock) -> None:
    actor = Scripted("a", *[crash_after(31)] * 20)
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=2, window=60))
        await trio.sleep(3600)
        assert (only(overseer).state, only(overseer).restarts) == ("running", 20)


async def test_a_crash_of_one_actor_does_not_touch_another(autojump_clock: MockClock) -> None:
    other = Scripted("other")
    async with running(supervisor()) as overseer:
        await overseer.start(other, policy())
        await overseer.start(Scripted("a", crash_after(1)), policy())
        await trio.sleep(10)
        assert (len(other.began), len(other.ended)) == (1, 0)


async def test_a_restart_is_logged_with_name_delay_and_error(
    autojump_clock: MockClock, logs: list[dict[str, object]]
) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", crash_after(1)), policy(backoff=2))
        await trio.sleep(10)
    [entry] = logs
    assert entry["log_level"] == "warning"
    assert (entry["actor"], entry["delay"], entry["error"]) == ("a", 2, "ValueError: crash")


# Groups, and what is no error


async def test_actor_whose_own_nursery_raises_a_group_is_restarted(autojump_clock: MockClock) -> None:
    async def group(started: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_after(0, ValueError("inner")), lambda: None)
            await serve(started)

    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", group), policy())
        await trio.sleep(10)
        status = only(overseer)
        assert (status.restarts, status.last_error) == (1, "ValueError: inner")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
async def test_interrupts_propagate_and_stop_every_actor(*, kind: type[BaseException], grouped: bool) -> None:
    async def interrupted(started: Callable[[], None]) -> None:
        started()
        if grouped:
            raise BaseExceptionGroup("", [ValueError("beside it"), kind()])
        raise kind

    overseer, other = supervisor(), Scripted("other")
    errors = await errors_of(overseer, other, Scripted("a", interrupted))
    assert [type(error) for error in errors] == [kind]
    assert [status.state for status in overseer.status()] == ["stopped", "failed"]


async def test_an_error_beside_the_cancellation_is_noted_and_the_cancellation_stays(
    logs: list[dict[str, object]],
) -> None:
    async def both(started: Callable[[], None]) -> None:
        started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("", [OSError("disk full"), cancelled]) from None

    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", both), policy())
        await overseer.stop("a")
        status = only(overseer)
    assert (status.state, status.restarts, status.last_error) == ("stopped", 0, "OSError: disk full")
    assert [entry["event"] for entry in logs] == ["actor failed while it was stopped"]


async def test_an_actor_that_swallows_its_cancellation_is_stopped_all_the_same() -> None:
    async def stubborn(started: Callable[[], None]) -> None:
        started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return

    actor = Scripted("a", stubborn)
    async with running(supervisor()) as overseer:
        await overseer.start(actor, policy(restarts=0))
        await overseer.stop("a")
        assert (only(overseer).state, len(actor.began)) == ("stopped", 1)


# Stopping


async def test_stop_waits_for_the_actors_cleanup(autojump_clock: MockClock) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", cleanup_of(3)), policy())
        begin = trio.current_time()
        await overseer.stop("a")
        assert trio.current_time() - begin == 3
        assert only(overseer).state == "stopped"


def cleanup_of(seconds: float) -> Life:
    async def life(started: Callable[[], None]) -> None:
        try:
            await serve(started)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    return life


async def test_stop_again_is_fine_and_stop_of_a_stranger_is_not() -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a"), policy())
        await overseer.stop("a")
        await overseer.stop("a")
        with pytest.raises(UnknownActorError, match="supervisor 'test' has no actor 'b'"):
            await overseer.stop("b")


async def test_stop_ends_a_backoff_at_once(autojump_clock: MockClock) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a", crash_after(1)), policy(backoff=20))
        await trio.sleep(2)
        begin = trio.current_time()
        await overseer.stop("a")
        assert trio.current_time() == begin
        assert (only(overseer).state, only(overseer).restarts) == ("stopped", 0)


async def test_stop_before_the_first_step_never_runs_the_actor() -> None:
    actor = Scripted("a")
    async with running(supervisor()) as overseer:
        overseer.spawn(actor, policy())
        await overseer.stop("a")
    assert actor.began == []


async def test_shutdown_stops_in_reverse_order_one_after_the_other(autojump_clock: MockClock) -> None:
    actors = [Scripted(name, cleanup_of(seconds)) for name, seconds in (("a", 1), ("b", 2), ("c", 4))]
    async with running(supervisor()) as overseer:
        for actor in actors:
            await overseer.start(actor, policy())
        begin = trio.current_time()
    assert [actor.ended[0] - begin for actor in actors] == [7, 6, 4]
    assert {status.state for status in overseer.status()} == {"stopped"}


async def test_an_actor_still_serves_those_that_stop_before_it(autojump_clock: MockClock) -> None:
    echo = Echo("first")
    answers: list[str] = []

    async def asks_at_the_end(started: Callable[[], None]) -> None:
        try:
            await serve(started)
        finally:
            with trio.move_on_after(5, shield=True):
                with pytest.raises(ActorDiedError):
                    await echo.mailbox.ask(Question("crash"))
                answers.append(await echo.mailbox.ask(Question("after its restart")))

    async with running(supervisor()) as overseer:
        await overseer.start(echo, policy())
        await overseer.start(Scripted("second", asks_at_the_end), policy())
    assert answers == ["after its restart"]


async def test_a_supervisor_that_is_stopping_takes_no_actors(autojump_clock: MockClock) -> None:
    refused: list[str] = []
    overseer = supervisor()

    async def spawns_at_the_end(started: Callable[[], None]) -> None:
        try:
            await serve(started)
        finally:
            try:
                overseer.spawn(Scripted("late"), policy())
            except SupervisorNotRunningError as error:
                refused.append(str(error))

    async with running(overseer):
        await overseer.start(Scripted("a", spawns_at_the_end), policy())
    assert refused == ["supervisor 'test' is not running; it takes no actor 'late'"]


async def test_budget_used_up_during_shutdown_does_not_turn_it_into_an_escalation(autojump_clock: MockClock) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("first", crash_after(2)), policy(restarts=0))
        await overseer.start(Scripted("second", cleanup_of(5)), policy())
    assert [status.state for status in overseer.status()] == ["failed", "stopped"]


async def test_ctrl_c_during_shutdown_leaves_no_actor_behind(autojump_clock: MockClock) -> None:
    async def interrupts(started: Callable[[], None]) -> None:
        try:
            await serve(started)
        finally:
            raise KeyboardInterrupt

    first, crash = Scripted("first"), Scripted("crash", crash_after(1, SystemExit()))
    errors = await errors_of(supervisor(), first, Scripted("second", interrupts), crash)
    assert {type(error) for error in errors} == {KeyboardInterrupt, SystemExit}
    assert len(first.ended) == 1


def test_ctrl_c_at_the_supervisor_while_it_stops_ends_every_actor_at_once() -> None:
    """The actors are shielded: if the loop that stops them were simply left, the run would hang."""
    first = Scripted("first")

    @trio.lowlevel.enable_ki_protection  # so that the interrupt goes to the main task, which is the supervisor here
    async def presses_ctrl_c(started: Callable[[], None]) -> None:
        try:
            await serve(started)
        finally:
            signal.raise_signal(signal.SIGINT)
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async def main() -> None:
        overseer = supervisor()
        with trio.move_on_after(1):
            await overseer.run(task_status=Spawn(overseer, first, Scripted("second", presses_ctrl_c)))

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [type(leaf) for leaf in leaves(caught.value)] == [KeyboardInterrupt]
    assert [began - ended for began, ended in zip(first.began, first.ended, strict=True)] == [-1]


# Mailboxes


async def test_a_crash_fails_the_question_in_process_and_serves_the_others(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    echo = Echo("echo")
    async with running(supervisor()) as overseer:
        results: dict[str, str] = {}

        async def ask(text: str) -> None:
            try:
                results[text] = await echo.mailbox.ask(Question(text))
            except ActorDiedError as error:
                results[text] = str(error)

        for text in ("crash", "a", "b"):
            nursery.start_soon(ask, text)
        await wait_all_tasks_blocked()
        await overseer.start(echo, policy())
        await trio.sleep(10)
    died = "actor 'echo' died before it answered: ValueError: asked to crash"
    assert results == {"crash": died, "a": "a", "b": "b"}


async def test_an_actor_that_failed_for_good_refuses_questions(autojump_clock: MockClock) -> None:
    echo = Echo("echo")
    async with running(supervisor()) as overseer:
        await overseer.start(echo, policy(restarts=0), escalate=False)
        with pytest.raises(ActorDiedError, match="asked to crash"):
            await echo.mailbox.ask(Question("crash"))
        with pytest.raises(ActorDiedError, match="actor 'echo' has failed: ValueError: asked to crash"):
            await echo.mailbox.ask(Question("hello"))


async def test_a_stopped_actor_refuses_questions_and_cannot_be_started_again() -> None:
    echo = Echo("echo")
    async with running(supervisor()) as overseer:
        await overseer.start(echo, policy())
        await overseer.stop("echo")
        with pytest.raises(ActorDiedError, match="actor 'echo' has stopped"):
            await echo.mailbox.ask(Question("hello"))
        with pytest.raises(ValueError, match="make a new one"):
            await overseer.start(echo, policy())


async def test_the_mailbox_depth_is_in_the_status() -> None:
    echo = Echo("echo")
    for text in "abc":
        echo.mailbox.tell(Question(text))
    async with running(supervisor()) as overseer:
        overseer.spawn(echo, policy())
        assert only(overseer).mailbox_depth == 3
        await wait_all_tasks_blocked()
        assert only(overseer).mailbox_depth == 0
    assert Scripted("no mailbox").mailbox_depth == 0


# Status


async def test_status_says_for_how_long(autojump_clock: MockClock) -> None:
    async with running(supervisor()) as overseer:
        await overseer.start(Scripted("a"), policy())
        await trio.sleep(42)
        assert only(overseer) == ActorStatus("a", "running", 0, 0, None, 42)


async def test_every_change_of_state_is_reported_in_order(autojump_clock: MockClock) -> None:
    seen: list[tuple[str, int]] = []
    overseer = supervisor(on_change=lambda status: seen.append((status.state, status.restarts)))
    async with running(overseer):
        await overseer.start(Scripted("a", crash_after(1)), policy())
        await trio.sleep(10)
    assert seen == [
        ("starting", 0),
        ("running", 0),
        ("backoff", 0),
        ("starting", 1),
        ("running", 1),
        ("stopped", 1),
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [OSError("b")])]), "ValueError: a; OSError: b"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 288),
    ],
)
def test_an_error_is_said_on_one_line(error: Exception, line: str) -> None:
    assert error_line(error) == line


# Against a model


@frozen
class Outcome:
    """What becomes of an actor, as the model and the supervisor tell it."""

    state: str
    restarts: int
    began: tuple[float, ...]


def foretell(uptimes: list[int], restarts: int, window: int) -> Outcome:
    """The model: an actor that is up for these times, crashing after each, and then serves."""
    now, exponent = 0.0, 0
    began, granted = [now], list[float]()
    for uptime in uptimes:
        now += uptime
        if sum(now - window < at for at in granted) >= restarts:
            return Outcome("failed", len(granted), tuple(began))
        granted.append(now)
        exponent = 0 if uptime > window else exponent
        now += min(2**exponent, 30)
        exponent += 1
        began.append(now)
    return Outcome("running", len(granted), tuple(began))


@given(
    schedules=st.lists(st.lists(st.integers(0, 20), max_size=8), min_size=1, max_size=4),
    restarts=st.integers(0, 5),
    window=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_actors_live_as_the_model_foretells(schedules: list[list[int]], restarts: int, window: int) -> None:
    """Any crash schedules side by side: restarts, their moments and the final states; nothing interferes."""

    async def live() -> list[Outcome]:
        actors = [Scripted(str(number), *map(crash_after, uptimes)) for number, uptimes in enumerate(schedules)]
        async with running(supervisor()) as overseer:
            begin = trio.current_time()
            for actor in actors:
                overseer.spawn(actor, policy(restarts, window), escalate=False)
            await trio.sleep(10_000)
            ends = [(status.state, status.restarts) for status in overseer.status()]
        return [Outcome(*end, tuple(at - begin for at in actor.began)) for end, actor in zip(ends, actors, strict=True)]

    clock = MockClock(autojump_threshold=0)
    assert trio.run(live, clock=clock) == [foretell(uptimes, restarts, window) for uptimes in schedules]


@given(
    crashes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    stop_at=st.integers(0, 40),
    cleanups=st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_shutdown_at_any_moment_ends_everything_in_order(crashes: list[int], stop_at: int, cleanups: list[int]) -> None:
    """Whatever a crashing actor is at (up, in backoff, starting), the others end one by one and it ends last."""

    async def live() -> None:
        crasher = Scripted("crasher", *map(crash_after, crashes))
        others = [Scripted(str(number), cleanup_of(seconds)) for number, seconds in enumerate(cleanups)]
        async with running(supervisor()) as overseer:
            for actor in (crasher, *others):
                await overseer.start(actor, policy(100))
            await trio.sleep(stop_at)
            begin = trio.current_time()
        total = sum(cleanups)
        assert trio.current_time() == begin + total
        assert [actor.ended[0] - begin for actor in others] == [sum(cleanups[i:]) for i in range(len(cleanups))]
        assert len(crasher.began) == len(crasher.ended)
        assert {status.state for status in overseer.status()} == {"stopped"}

    trio.run(live, clock=MockClock(autojump_threshold=0))


async def test_a_broken_observer_is_loud_and_leaves_no_actor_behind() -> None:
    def observe(status: ActorStatus) -> NoReturn:
        raise AssertionError(f"cannot take {status.state}")

    errors = await errors_of(supervisor(on_change=observe), Scripted("a"))
    assert {type(error) for error in errors} == {AssertionError}
