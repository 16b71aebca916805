"""What the gateway's HTTP side needs from whoever owns the fleet state."""

from typing import Protocol

from attrs import frozen

from helexa.cortex.routing.fleet import Fleet
from helexa.cortex.routing.policy import Refusal, Route, Wanted
from helexa.wire.fleet import ActorReport


@frozen(eq=False)
class Grant:
    """A place at a node; counted as in flight until released."""

    route: Route


class Routes(Protocol):
    """The owner of the fleet state."""

    async def acquire(self, wanted: Wanted) -> Grant | Refusal:
        """A place for one request; whoever got it releases it, once.

        Returns at once where the model is loaded or cannot be, and waits where it has to be loaded first: as long as
        ``cortex.load_timeout``, together with everyone else who waits for it. Cancelling gives the wait up.
        """

    def wants_prefixes(self, name: str) -> bool:
        """Whether the prefixes of a conversation would make a difference: more than one node holds the model."""

    def release(self, grant: Grant) -> None:
        """The request has ended."""

    def unreachable(self, node: str, error: str) -> None:
        """A request found the node unreachable: believe it now rather than at the next poll."""

    def suspect(self, node: str) -> None:
        """A request met a node in trouble: look at it now rather than at the next poll."""

    def fleet(self) -> Fleet:
        """The state now, for reading only."""


class Lifecycle(Protocol):
    """Loads and unloads models because an operator says so."""

    async def load(self, model: str, node: str | None) -> str:
        """Load a model, on ``node`` or where it fits best, and wait until it serves; the node's name.

        Raises:
            ApiError: the model or the node is unknown, nothing can hold it, or the load failed.
        """

    async def unload(self, model: str, node: str | None) -> tuple[str, ...]:
        """Unload a model, from ``node`` or wherever it is, once its requests have ended; the nodes' names.

        Raises:
            ApiError: it is not loaded there, or its requests did not end within ``cortex.eviction.drain``.
        """

    def pin(self, model: str, node: str | None, *, pinned: bool) -> tuple[str, ...]:
        """Keep a model where it is loaded whatever else needs room, or stop doing so; the nodes' names.

        Raises:
            ApiError: it is not loaded there.
        """

    def alias(self, alias: str, model: str | None) -> None:
        """Have a further name for a model, until the gateway ends or the topology has that name; ``None``: no longer.

        Raises:
            ApiError: the model is unknown, or the name is another's.
        """

    async def logs(self, node: str, query: str) -> bytes:
        """A page of a node's log, as JSON; ``query`` as in a URL.

        Raises:
            ApiError: there is no such node, or it does not answer.
        """


class Actors(Protocol):
    """The actors of this process."""

    def actors(self) -> tuple[ActorReport, ...]:
        """Every one of them."""
