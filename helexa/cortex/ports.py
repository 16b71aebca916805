"""What the gateway's HTTP side needs from whoever owns the fleet state."""

from collections.abc import Collection
from typing import Protocol

from attrs import frozen

from helexa.cortex.fleet import Fleet
from helexa.cortex.policy import Refusal, Route
from helexa.wire.fleet import ActorReport


@frozen
class Grant:
    """A place at a node; counted as in flight until released."""

    route: Route


class Routes(Protocol):
    """The owner of the fleet state. Its methods never wait: each is answered between two steps of its loop."""

    def grant(self, name: str, avoid: Collection[str] = ()) -> Grant | Refusal:
        """A place for one request; whoever got it releases it, once."""

    def release(self, grant: Grant) -> None:
        """The request has ended."""

    def unreachable(self, node: str, error: str) -> None:
        """A request found the node unreachable: believe it now rather than at the next poll."""

    def suspect(self, node: str) -> None:
        """A request met a node in trouble: look at it now rather than at the next poll."""

    def fleet(self) -> Fleet:
        """The state now, for reading only."""


class Actors(Protocol):
    """The actors of this process."""

    def actors(self) -> tuple[ActorReport, ...]:
        """Every one of them."""
