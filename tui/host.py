"""What screens need of the application that shows them: the one side of it that they know."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from tui.live import Source
from tui.messages import LinkChanged, LogWanted
from tui.operations import Operations
from tui.world import World


class Host(Protocol):
    """The console, as its screens see it.

    Attributes:
        world: what is known of the fleet.
        source: where that comes from.
        operations: what can be done to it; ``None``: nothing.
        link: whether the fleet is there.
        where: what is looked at.
    """

    world: World
    source: Source
    operations: Operations | None
    link: LinkChanged
    where: str

    @property
    def readonly(self) -> bool:
        """Whether nothing can be changed from here."""

    @property
    def note(self) -> str:
        """What else the first lines say."""

    @property
    def tabs(self) -> tuple[tuple[str, str], ...]:
        """Key and title of each screen."""

    def confirmed(self, question: str, verb: str, then: Callable[[], None]) -> None:
        """Ask before something is destroyed, and only then do it."""

    def do(self, doing: Coroutine[Any, Any, str], *refresh: str) -> None:
        """Do something in the background, say how it went, and have what it changed read at once."""

    async def show_log(self, wanted: LogWanted) -> None:
        """Go to the Logs screen, and have it look for something."""
