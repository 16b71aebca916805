"""Who does it, live: supervised trio actors, their mailboxes and their child processes."""

from actors.actor import Actor, ActorReturnedError, ActorState, ActorStatus, ActorStoppedError, error_line
from actors.mailbox import ActorDiedError, Ask, Mailbox, MailboxFullError
from actors.process import ChildProcess, Exit, ProcessStuckError
from actors.supervisor import (
    EscalationError,
    RestartBudget,
    Supervisor,
    SupervisorNotRunningError,
    UnknownActorError,
)

__all__ = [
    "Actor",
    "ActorDiedError",
    "ActorReturnedError",
    "ActorState",
    "ActorStatus",
    "ActorStoppedError",
    "Ask",
    "ChildProcess",
    "EscalationError",
    "Exit",
    "Mailbox",
    "MailboxFullError",
    "ProcessStuckError",
    "RestartBudget",
    "Supervisor",
    "SupervisorNotRunningError",
    "UnknownActorError",
    "error_line",
]
