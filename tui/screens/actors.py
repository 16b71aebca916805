"""The Actors screen."""

from typing import Any, ClassVar

from rich.text import Text

from tui.screens.folded import FoldedScreen, Shown
from tui.views import actors as view
from tui.views.actors import ActorsPainter, Member, Process
from tui.views.page import Page
from tui.world import World


class ActorsScreen(FoldedScreen):
    """The processes of the fleet, and the actors that each of them supervises."""

    NAME: ClassVar = "actors"
    TITLE: ClassVar = "Actors"
    FEEDS: ClassVar[frozenset[str]] = frozenset({"fleet", "actors"})
    ORDERS = view.ORDERS

    def basis(self, world: World) -> tuple[object, ...]:
        """The actors, which are new ones each time they were read; why they cannot be; which nodes there are."""
        return (world.actors, world.errors.get("actors"), world.fleet)

    def look(self, world: World, width: int, lines: int) -> Shown:
        """Processes."""
        del lines
        absence = view.absence(world)
        if absence is not None:
            return Shown(absence)
        found = view.processes(world.actors, () if world.fleet is None else world.fleet.nodes)
        painter = ActorsPainter(unicode=self.unicode)
        return Shown(None, view.notice(world), view.summary(found, width), view.groups(found, self.order), painter)

    def tell(self, world: World, content: Any, page: Page) -> Text:
        """All about a process or an actor."""
        del world
        return view.details(content, page)

    def call(self, content: Any) -> str:
        """Its name."""
        return content.name if isinstance(content, Process) else str(content.actor.name)

    def log_of(self, content: Any) -> tuple[str, str]:
        """Of the process that it runs in; one that is down is told of by the gateway."""
        if isinstance(content, Process):
            is_up = content.node is not None and content.node.up
            return (content.name, "") if is_up else ("", "" if content.node is None else f"actor:{content.name}")
        member: Member = content
        return "" if member.process == view.GATEWAY else member.process, f"actor:{member.actor.name}"
