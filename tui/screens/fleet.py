"""The Fleet screen."""

from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from tui.screens.folded import FoldedScreen, Shown
from tui.views import fleet as view
from tui.views.fleet import Sums, Thing
from tui.views.fleet_details import details, lately
from tui.views.fleet_lines import FleetPainter
from tui.views.page import Page
from tui.world import World


class FleetScreen(FoldedScreen):
    """Nodes, their devices, and the models that they hold."""

    NAME: ClassVar = "fleet"
    TITLE: ClassVar = "Fleet"
    ORDERS = view.ORDERS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "unload", "Unload"),
        Binding("p", "pin", "Pin, unpin"),
    ]

    def basis(self, world: World) -> tuple[object, ...]:
        """The fleet, which is a new one each time it was read; until then, why it cannot be."""
        return (world.fleet, world.errors.get("fleet") if world.fleet is None else None)

    def look(self, world: World, width: int, lines: int) -> Shown:
        """Nodes."""
        fleet, absence = world.fleet, view.absence(world)
        if fleet is None or absence is not None:
            return Shown(absence, view.notice(world, lines))
        summary = view.summary(Sums.of(world, fleet), width)
        groups = view.groups(fleet, self.order)
        return Shown(None, view.notice(world, lines), summary, groups, FleetPainter(world, unicode=self.unicode))

    def tell(self, world: World, content: Any, page: Page) -> Text:
        """All about a node, a device or a model."""
        return details(world, content, page)

    def call(self, content: Any) -> str:
        """Its name."""
        thing: Thing = content
        return thing.name

    def log_of(self, content: Any) -> tuple[str, str]:
        """A node writes its own; of one that is down the gateway knows more."""
        thing: Thing = content
        if not thing.node.up:
            return "", f"node:{thing.node.name}"
        return thing.node.name, "" if thing.model is None else f"model:{thing.model.id}"

    def below(self, world: World, lines: int, width: int) -> Text | None:
        """What happened."""
        return lately(world, lines, width)

    @property
    def thing(self) -> Thing | None:
        """What the cursor is on."""
        thing: Thing | None = self.content if self.is_mounted else None
        return thing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Models alone can be unloaded and pinned, and neither where nothing may be changed."""
        if action in ("unload", "pin"):
            return not self.console.readonly and self.thing is not None and self.thing.model is not None
        return super().check_action(action, parameters)

    def action_unload(self) -> None:
        """Take a model from a node, after a question."""
        operations, thing = self.console.operations, self.thing
        if operations is None or thing is None or thing.model is None:
            return
        model, node = thing.model.id, thing.node.name
        question = (
            f"Unload {model} from {node}? What it is answering it still answers; whoever asks next waits for a load."
        )
        self.console.confirmed(question, "Unload", lambda: self.console.do(operations.unload(model, node), "models"))

    def action_pin(self) -> None:
        """Keep a model where it is, or no longer."""
        operations, thing = self.console.operations, self.thing
        if operations is not None and thing is not None and (model := thing.model) is not None:
            self.console.do(operations.pin(model.id, pinned=not model.pinned, node=thing.node.name), "models")
