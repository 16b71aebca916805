"""Placeholder, written anew by its owner."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import Static

from tui.screens.base import ConsoleScreen
from tui.world import World


class RequestsScreen(ConsoleScreen):
    """Requests."""

    NAME: ClassVar = "requests"
    TITLE: ClassVar = "Requests"

    def body(self) -> Iterable[Widget]:
        """Nothing."""
        yield Static("…")

    def show(self, world: World) -> None:
        """Nothing."""
