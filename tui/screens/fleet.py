"""The fleet: nodes, their devices, what they hold."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget

from tui.glyphs import named
from tui.screens.base import ConsoleScreen
from tui.widgets.table import Column, LiveTable, Row
from tui.world import World


class FleetScreen(ConsoleScreen):
    """Nodes."""

    NAME: ClassVar = "fleet"
    TITLE: ClassVar = "Fleet"

    def body(self) -> Iterable[Widget]:
        """A table."""
        yield LiveTable([Column("node", "node"), Column("status", "status"), Column("models", "models", right=True)])

    def show(self, world: World) -> None:
        """A row for each node."""
        nodes = () if world.fleet is None else world.fleet.nodes
        self.query_one(LiveTable).show_rows(
            Row(
                node.name,
                {"node": node.name, "status": named("up" if node.up else "down"), "models": str(len(node.models))},
            )
            for node in nodes
        )
