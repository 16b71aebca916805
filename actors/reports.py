"""An actor's status in the shape of the wire."""

from actors.actor import ActorStatus
from helexa.wire.fleet import ActorReport


def actor_report(status: ActorStatus) -> ActorReport:
    """The status as ``/fleet/actors`` shows it."""
    return ActorReport(
        name=status.name,
        state=status.state,
        restarts=status.restarts,
        mailbox_depth=status.mailbox_depth,
        last_error=status.last_error,
        since_seconds=round(status.since, 3),
    )
