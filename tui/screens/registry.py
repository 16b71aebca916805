"""The screens, in the order of their keys."""

from typing import Final

from tui.screens.actors import ActorsScreen
from tui.screens.base import ConsoleScreen
from tui.screens.bench import BenchScreen
from tui.screens.chat import ChatScreen
from tui.screens.fleet import FleetScreen
from tui.screens.keys import KeysScreen
from tui.screens.logs import LogsScreen
from tui.screens.models import ModelsScreen
from tui.screens.requests import RequestsScreen

SCREENS: Final[dict[str, type[ConsoleScreen]]] = {
    screen.NAME: screen
    for screen in (
        FleetScreen,
        RequestsScreen,
        ModelsScreen,
        ActorsScreen,
        BenchScreen,
        KeysScreen,
        ChatScreen,
        LogsScreen,
    )
}
