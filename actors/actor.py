"""What an actor is, and what is known about one: a run loop that owns its state, kept alive by a supervisor."""

import abc
from typing import Any, Final, Literal

import trio
from attrs import frozen

from actors.mailbox import Mailbox

ActorState = Literal["starting", "running", "backoff", "failed", "stopped"]

_MAX_ERROR_LENGTH: Final = 300


class ActorReturnedError(Exception):
    """An actor's run loop returned; it is a daemon and may only be cancelled."""


class ActorStoppedError(Exception):
    """An actor was stopped before it had started."""


class Actor(abc.ABC):
    """A daemon with a name.

    An actor reached by messages keeps its mailbox in `mailbox`. Its supervisor then reports the depth, fails the askers
    of what was in process whenever `run` ends, and closes it when the actor will not run again; after that the object
    cannot be started once more.

    Attributes:
        name: Unique under its supervisor.
        mailbox: Where its messages arrive; None for an actor that nobody talks to.
    """

    name: str
    mailbox: Mailbox[Any] | None = None

    @abc.abstractmethod
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; returning is an error.

        It is called again after a crash, so it begins by building its state anew. It reports `task_status.started()`
        only when it can serve. Cleanup that awaits is shielded and has a deadline of its own.
        """

    @property
    def mailbox_depth(self) -> int:
        """Messages waiting to be read."""
        return 0 if self.mailbox is None else self.mailbox.depth


@frozen
class ActorStatus:
    """What a supervisor knows about one actor.

    Attributes:
        name: The actor.
        state: `failed` and `stopped` are final.
        restarts: How often it was started again.
        mailbox_depth: Messages waiting to be read.
        last_error: The latest error, on one line, or None; kept when the actor runs again.
        since: Seconds in this state.
    """

    name: str
    state: ActorState
    restarts: int
    mailbox_depth: int
    last_error: str | None
    since: float


def error_line(error: BaseException) -> str:
    """Say an error on one line, without its traceback; a group as what it holds."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(error_line(inner) for inner in error.exceptions)[:_MAX_ERROR_LENGTH]
    message = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {message}" if message else name)[:_MAX_ERROR_LENGTH]
