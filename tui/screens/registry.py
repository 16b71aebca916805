"""The screens, in the order of their keys. A screen's module is imported when it is first shown."""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from attrs import frozen

from tui.screens.base import ConsoleScreen


@frozen
class Entry:
    """A screen, before it is needed: all of them together take as long to import as everything else the console has.

    Attributes:
        name: what the application calls it, ``ConsoleScreen.NAME``; its module's as well.
        title: what people call it, ``ConsoleScreen.TITLE``; its class is named after it.
    """

    name: str
    title: str

    def load(self) -> type[ConsoleScreen]:
        """Its class."""
        found: type[ConsoleScreen] = getattr(import_module(f"tui.screens.{self.name}"), f"{self.title}Screen")
        return found

    def make(self) -> ConsoleScreen:
        """A screen of this kind."""
        return self.load()()


SCREENS: Final[dict[str, Entry]] = {
    title.lower(): Entry(title.lower(), title)
    for title in ("Fleet", "Requests", "Models", "Actors", "Bench", "Keys", "Chat", "Logs")
}


def makers() -> dict[str, Callable[[], ConsoleScreen]]:
    """What makes each screen, by its name."""
    return {name: entry.make for name, entry in SCREENS.items()}
