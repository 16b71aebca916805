"""An actor's status on the wire."""

from actors import ActorStatus
from actors.reports import actor_report
from helexa.wire.fleet import ActorReport


def test_a_status_as_the_wire_has_it() -> None:
    status = ActorStatus("poller", "backoff", 3, 7, "OSError: gone", 1.23456)
    assert actor_report(status) == ActorReport("poller", "backoff", 3, 7, "OSError: gone", 1.235)
