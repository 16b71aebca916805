"""Keeps actors alive: starts them, restarts what crashes within a budget, stops them in reverse order.

Every actor's task is shielded from the supervisor's own cancellation and has a cancel scope of its own. A plain nursery
would cancel all actors in the same instant; here the supervisor, when it is cancelled, stops them one after another,
the last started first, and until its turn comes an actor serves those that stop before it, restarts included.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
import trio
from attrs import Factory, define

from actors.actor import Actor, ActorReturnedError, ActorState, ActorStatus, ActorStoppedError, error_line
from config import RestartPolicy
from helexa.faults import OperatorError

MAX_BACKOFF: Final = 30.0
"""The longest delay before a restart, in seconds, before jitter."""

_log = structlog.get_logger()


class UnknownActorError(LookupError):
    """The supervisor has no actor of that name."""


class SupervisorNotRunningError(RuntimeError):
    """The supervisor is not running, or is stopping already, and takes no actors."""


class ForgivenError(Exception):
    """An actor ended, and not by a fault of its own: it is started again, and that leaves its budget as it was.

    Whoever raises it bounds how often.
    """


class EscalationError(OperatorError):
    """An actor used up its restarts; its last error is the cause.

    Attributes:
        actor: The actor's name.
    """

    def __init__(self, actor: str, message: str) -> None:
        super().__init__(message)
        self.actor = actor


class RestartBudget:
    """Decides whether and when a crashed actor is started again. Pure but for the generator of the jitter."""

    def __init__(self, policy: RestartPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._spent: deque[float] = deque()
        self._doublings = 0

    def crash(self, now: float, uptime: float) -> float | None:
        """Account for a crash.

        Args:
            now: When it happened, in seconds on a monotonic clock.
            uptime: Seconds the actor had been running since it reported started; 0 if it never did.

        Returns:
            The delay before the restart in seconds, or None when the window's restarts are used up.
        """
        while self._spent and now - self._spent[0] >= self._policy.window:
            self._spent.popleft()
        if len(self._spent) >= self._policy.max:
            return None
        self._spent.append(now)
        if uptime > self._policy.window:
            self._doublings = 0
        return self._next_delay()

    def forgive(self) -> float:
        """The delay before a restart that does not count, in seconds."""
        return self._jittered(min(self._policy.backoff, MAX_BACKOFF))

    def _next_delay(self) -> float:
        delay = min(self._policy.backoff * 2.0**self._doublings, MAX_BACKOFF)
        if delay < MAX_BACKOFF:  # beyond the cap the power would only grow, in the end past what a float holds
            self._doublings += 1
        return self._jittered(delay)

    def _jittered(self, delay: float) -> float:
        return delay * self._rng.uniform(0.5, 1.5)


@define(eq=False)
class _Child:
    """One actor under supervision; the supervisor alone writes here."""

    actor: Actor
    policy: RestartPolicy
    budget: RestartBudget
    escalate: bool
    starter_waits: bool
    entered: float
    state: ActorState = "starting"
    restarts: int = 0
    last_error: str | None = None
    fatal: Exception | None = None
    served: bool = False
    scope: trio.CancelScope = Factory(lambda: trio.CancelScope(shield=True))
    settled: trio.Event = Factory(trio.Event)
    done: trio.Event = Factory(trio.Event)

    @property
    def uptime(self) -> float:
        return trio.current_time() - self.entered if self.state == "running" else 0.0

    def status(self) -> ActorStatus:
        since = trio.current_time() - self.entered
        depth = self.actor.mailbox_depth
        return ActorStatus(self.actor.name, self.state, self.restarts, depth, self.last_error, since)


@define(eq=False)
class _Started(trio.TaskStatus[None]):
    """The `task_status` of one run of an actor."""

    report: Callable[[], None]
    called: bool = False

    def started(self, value: None = None) -> None:  # noqa: ARG002 - the protocol's signature
        if self.called:
            raise RuntimeError("an actor called 'started' twice on the same task status")
        self.called = True
        self.report()


class Supervisor:
    """Runs actors and restarts them; owns their tasks.

    Start it with `await nursery.start(supervisor.run)`, then add actors. It runs once.

    Args:
        name: For logs and errors.
        rng: The source of the backoff's jitter.
        on_change: Called with an actor's new status whenever its state changes; must not raise.
    """

    def __init__(
        self,
        name: str,
        *,
        rng: random.Random | None = None,
        on_change: Callable[[ActorStatus], None] | None = None,
    ) -> None:
        self.name = name
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - spreads restarts, guards nothing
        self._on_change = on_change
        self._children: dict[str, _Child] = {}
        self._nursery: trio.Nursery | None = None
        self._open = False
        self._overrun = trio.Event()
        self._escalation: EscalationError | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then stop the actors, the last started first.

        Raises:
            EscalationError: An actor that may escalate used up its restarts; all others were stopped.
            SupervisorNotRunningError: It ran before.
        """
        if self._nursery is not None:
            raise SupervisorNotRunningError(f"supervisor {self.name!r} ran already; make a new one")
        async with trio.open_nursery() as self._nursery:
            self._open = True
            task_status.started()
            try:
                await self._overrun.wait()
            finally:
                self._open = False
                await self._stop_all()
        if self._escalation is not None:
            raise self._escalation

    async def start(self, actor: Actor, policy: RestartPolicy, *, escalate: bool = True) -> None:
        """Start an actor and wait until it first reports started.

        Its crashes before that are restarted like any others; when they use up the budget its last error is raised
        here and nothing escalates. Cancelling this call stops the actor.

        Args:
            actor: One that never ran.
            policy: Its restart budget.
            escalate: Whether the supervisor gives up with it, later on; otherwise it alone is left `failed`.

        Raises:
            ActorStoppedError: It was stopped meanwhile.
            SupervisorNotRunningError: The supervisor takes no actors.
            ValueError: An actor of that name is there, or this one was stopped before.
            Exception: Whatever the actor raised.
        """
        child = self._admit(actor, policy, escalate=escalate, starter_waits=True)
        try:
            await child.settled.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await _stop(child)
            raise
        if not child.served:
            raise child.fatal or ActorStoppedError(f"actor {actor.name!r} was stopped before it had started")

    def spawn(self, actor: Actor, policy: RestartPolicy, *, escalate: bool = True) -> None:
        """Start an actor without waiting; otherwise like `start`, but a failure to start escalates, too.

        Raises:
            SupervisorNotRunningError: The supervisor takes no actors.
            ValueError: An actor of that name is there, or this one was stopped before.
        """
        self._admit(actor, policy, escalate=escalate, starter_waits=False)

    async def stop(self, name: str) -> None:
        """Cancel one actor and wait until its cleanup is done; again is fine.

        Raises:
            UnknownActorError: There never was one.
        """
        if name not in self._children:
            raise UnknownActorError(f"supervisor {self.name!r} has no actor {name!r}")
        await _stop(self._children[name])

    def status(self) -> tuple[ActorStatus, ...]:
        """Every actor, in the order of their start; those that ended stay listed until their name is used again."""
        return tuple(child.status() for child in self._children.values())

    def _admit(self, actor: Actor, policy: RestartPolicy, *, escalate: bool, starter_waits: bool) -> _Child:
        self._check_admissible(actor)
        budget = RestartBudget(policy, self._rng)
        child = _Child(actor, policy, budget, escalate, starter_waits, trio.current_time())
        self._children.pop(actor.name, None)  # a name used again starts, and so stops, in its new place
        self._children[actor.name] = child
        assert self._nursery is not None
        self._nursery.start_soon(self._supervise, child, name=f"{self.name}/{actor.name}")
        return child

    def _check_admissible(self, actor: Actor) -> None:
        if not self._open:
            raise SupervisorNotRunningError(
                f"supervisor {self.name!r} is not running; it takes no actor {actor.name!r}"
            )
        holder = self._children.get(actor.name)
        if holder is not None and not holder.done.is_set():
            raise ValueError(f"supervisor {self.name!r} has an actor {actor.name!r}; stop that one first")
        if actor.mailbox is not None and actor.mailbox.closed:
            raise ValueError(f"actor {actor.name!r} was stopped and its mailbox is closed; make a new one")

    async def _supervise(self, child: _Child) -> None:
        final: ActorState = "stopped"
        try:
            with child.scope:
                await self._keep_alive(child)
            if child.fatal is not None:
                final = "failed"
        except BaseException as error:
            final, child.last_error = "failed", error_line(error)
            raise
        finally:
            self._retire(child, final)

    async def _keep_alive(self, child: _Child) -> None:
        """Run the actor again and again until it is stopped or its budget is used up."""
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._enter(child, "starting")
            error = await self._run_once(child)
            if child.scope.cancel_called:
                _log_unclean(child)
                return
            delay = _delay(child, error)
            if delay is None:
                self._give_up(child, error)
                return
            await self._back_off(child, delay, error)

    async def _run_once(self, child: _Child) -> Exception:
        """Run the actor until it ends by itself, and return what ended it.

        What is not an error (cancellation, Ctrl-C, SystemExit) passes, even out of a group that holds errors, too.
        """
        error: Exception
        try:
            await child.actor.run(task_status=_Started(lambda: self._serves(child)))
            error = ActorReturnedError(f"actor {child.actor.name!r} returned; it may only end by being cancelled")
        except Exception as caught:  # noqa: BLE001 - every error is a reason to restart
            error = caught
        except BaseExceptionGroup as group:
            errors, rest = group.split(Exception)
            if errors is not None:
                self._note(child, errors)
                _log_unclean(child)
            raise (group if rest is None else rest) from None
        self._note(child, error)
        return error

    def _note(self, child: _Child, error: Exception) -> None:
        child.last_error = error_line(error)
        if child.actor.mailbox is not None:
            child.actor.mailbox.abandon(f"died before it answered: {child.last_error}")

    async def _back_off(self, child: _Child, delay: float, error: Exception) -> None:
        _log.warning(
            "actor crashed and will be restarted",
            actor=child.actor.name,
            delay=round(delay, 3),
            error=child.last_error,
            exc_info=error,
        )
        self._enter(child, "backoff")
        await trio.sleep(delay)
        child.restarts += 1

    def _give_up(self, child: _Child, error: Exception) -> None:
        """Leave the actor failed, and tell whoever is to decide: the waiting starter, or the supervisor's parent."""
        child.fatal = error
        _log.error("actor failed", actor=child.actor.name, error=child.last_error, exc_info=error)
        starter_decides = child.starter_waits and not child.served
        if starter_decides or not child.escalate or self._escalation is not None:
            return
        self._escalation = EscalationError(
            child.actor.name,
            f"actor {child.actor.name!r} of supervisor {self.name!r} crashed more than {child.policy.max} times "
            f"in {child.policy.window:g} s; its last error was {child.last_error}",
        )
        self._escalation.__cause__ = error
        self._overrun.set()

    def _serves(self, child: _Child) -> None:
        child.served = True
        child.settled.set()
        self._enter(child, "running")

    def _enter(self, child: _Child, state: ActorState) -> None:
        child.state, child.entered = state, trio.current_time()
        if self._on_change is not None:
            self._on_change(child.status())

    def _retire(self, child: _Child, state: ActorState) -> None:
        if child.actor.mailbox is not None:
            child.actor.mailbox.close("has stopped" if state == "stopped" else f"has failed: {child.last_error}")
        child.settled.set()
        child.done.set()
        self._enter(child, state)

    async def _stop_all(self) -> None:
        """Stop every actor, the last started first, each for as long as its own cleanup takes."""
        try:
            with trio.CancelScope(shield=True):
                for child in reversed(list(self._children.values())):
                    await _stop(child)
        finally:  # a Ctrl-C in here must not leave the nursery waiting for shielded actors that nobody stops
            for child in self._children.values():
                child.scope.cancel()


def _delay(child: _Child, error: Exception) -> float | None:
    """Seconds until the actor is started again; ``None``: it is not."""
    if isinstance(error, ForgivenError):
        return child.budget.forgive()
    return child.budget.crash(trio.current_time(), child.uptime)


async def _stop(child: _Child) -> None:
    child.scope.cancel()
    await child.done.wait()


def _log_unclean(child: _Child) -> None:
    _log.warning("actor failed while it was stopped", actor=child.actor.name, error=child.last_error)
