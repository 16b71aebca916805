"""The keys: who may use the fleet, what of it, how much of that is used."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from tui.commands import Offers
from tui.operations import Operations
from tui.screens.base import ConsoleScreen
from tui.screens.dialogs import Secret
from tui.screens.newkey import NewKey
from tui.views import keys
from tui.views.keyring import Key, Keyring
from tui.views.sameness import same
from tui.widgets.table import LiveTable
from tui.world import World

_READ = ("keys", "usage")
_DETAILS = 84
"""Characters that the facts about a key have where they stand beside the table."""
_WIDE = 140


class KeyActions(Offers):
    """Finding, exchanging and revoking each key, by its name."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        screen = self.screen
        assert isinstance(screen, KeysScreen)
        for key in screen.ring.keys:
            if key.state != "revoked":
                yield f"Go to key {key.name}", partial(screen.table.go_to, key.id)
                if not screen.console.readonly and keys.may_change(key) is None:
                    yield f"Rotate key {key.name}", partial(screen.rotate, key)
                    yield f"Revoke key {key.name}", partial(screen.revoke, key)


class KeysScreen(ConsoleScreen):
    """Who may use the fleet, what of it, and how much of that is used; keys are made, exchanged and revoked here."""

    NAME: ClassVar = "keys"
    TITLE: ClassVar = "Keys"
    FEEDS: ClassVar = frozenset({"fleet", "keys", "accounts", "usage"})
    COMMANDS: ClassVar[set[Any]] = {KeyActions}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "create", "New key"),
        Binding("r", "rotate", "Rotate"),
        Binding("x", "revoke", "Revoke"),
        Binding("v", "revoked", "Show revoked"),
        Binding("y", "copy", "Copy the name", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.ring = Keyring()
        self._revoked = False
        self._drawn: tuple[object, ...] = ()

    def body(self) -> Iterable[Widget]:
        """The keys, and what there is to say about the one under the cursor."""
        trouble = Static(id="trouble", markup=False)
        trouble.display = False
        yield trouble
        facts = VerticalScroll(Static(id="key"), id="keyfacts")
        yield Container(LiveTable(id="keys"), facts, id="keybody")

    @property
    def table(self) -> LiveTable:
        """That of the keys."""
        return self.query_one("#keys", LiveTable)

    def show(self, world: World) -> None:
        """Draw what is new of them: revoked keys are kept for ever, and there may be thousands."""
        told = (each.get(feed) for each in (world.raw, world.errors) for feed in ("keys", "accounts", "usage"))
        state = (*told, world.fleet, self.size.width, self._revoked)
        if not same(state, self._drawn):
            self._drawn = state
            self._show(world)

    def _show(self, world: World) -> None:
        self.ring = Keyring.of(world)
        told = keys.trouble(world)
        self.say("#trouble", Text(told) if told else None)
        width = self.size.width - (_DETAILS if self.size.width >= _WIDE else 0)
        rows = keys.rows(self.ring, revoked=self._revoked)
        self.table.show_rows(rows, keys.columns(self.ring, width - 2))
        self._show_key()

    def _show_key(self) -> None:
        key = self._current
        told = keys.hint(self.ring, self.console.world, revoked=self._revoked)
        self.say("#key", Text(told) if key is None else keys.details(self.ring, key, told))

    @on(LiveTable.Moved, "#keys")
    def _moved(self) -> None:
        self._show_key()

    @on(LiveTable.Opened, "#keys")
    def _opened(self) -> None:
        self.query_one("#keyfacts").focus()

    def on_resize(self) -> None:
        """Other columns have room, and the facts stand beside the table or under it."""
        self.set_class(self.size.width >= _WIDE, "-wide")
        if self.is_mounted:
            self.show(self.console.world)

    @property
    def _current(self) -> Key | None:
        return self.ring.key(self.table.current)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be changed through a console that may only read."""
        if action in {"create", "rotate", "revoke"} and self.console.readonly:
            return False
        return super().check_action(action, parameters)

    def action_copy(self) -> None:
        """The name of the key; the key itself nobody knows."""
        if (key := self._current) is not None:
            self.app.copy_to_clipboard(key.name)
            self.notify(f"Copied: {key.name}", markup=False)

    def action_revoked(self) -> None:
        """Show those that are revoked as well, or no longer."""
        self._revoked = not self._revoked
        self.show(self.console.world)

    def action_create(self) -> None:
        """Make a key."""
        if (operations := self.console.operations) is not None:
            self.app.push_screen(NewKey(operations.create_key), self._made)

    def _made(self, found: dict[str, Any] | None) -> None:
        if found is not None:
            self._tell(found)
            self.console.source.poke(*_READ)

    def _tell(self, found: dict[str, Any]) -> None:
        """Show a key this once; where there is none, say that."""
        name, key = found.get("name", "?"), found.get("key")
        if isinstance(key, str):
            self.app.push_screen(Secret(f"The key {name}:", key))
        else:
            told = f"{self.console.where} answered without the new key of {name}."
            self.notify(told, severity="error", timeout=15, markup=False)

    def action_rotate(self) -> None:
        """Exchange the key under the cursor."""
        if (key := self._current) is not None:
            self.rotate(key)

    def rotate(self, key: Key) -> None:
        """Exchange a key for a new one."""
        question = f"{key.name} is exchanged for a new key; the old one is refused at once."
        self._change(key, question, "Rotate", lambda it: self._rotated(it, key.name))

    async def _rotated(self, operations: Operations, name: str) -> str:
        self._tell({"name": name} | await operations.rotate_key(name))
        return f"The key {name} is exchanged."

    def action_revoke(self) -> None:
        """Have the key under the cursor open nothing any more."""
        if (key := self._current) is not None:
            self.revoke(key)

    def revoke(self, key: Key) -> None:
        """Have a key open nothing any more."""
        question = f"{key.name} is refused from now on, for good."
        self._change(key, question, "Revoke", lambda it: it.revoke_key(key.name))

    def _change(self, key: Key, question: str, verb: str, doing: Callable[[Operations], Any]) -> None:
        operations, why_not = self.console.operations, keys.may_change(key)
        if why_not is not None:
            self.notify(why_not, severity="warning", markup=False)
        elif operations is not None:
            self.console.confirmed(question, verb, lambda: self.console.do(doing(operations), *_READ))
