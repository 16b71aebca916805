"""Placeholder, written anew by its owner."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import Static

from tui.screens.base import ConsoleScreen
from tui.world import World


class BenchScreen(ConsoleScreen):
    """Bench."""

    NAME: ClassVar = "bench"
    TITLE: ClassVar = "Bench"

    def body(self) -> Iterable[Widget]:
        """Nothing."""
        yield Static("…")

    def show(self, world: World) -> None:
        """Nothing."""
