"""The models: which there are, where each one is, where it would fit, and why not elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from tui.commands import Offers
from tui.messages import Filtered
from tui.operations import Operations
from tui.screens.base import ConsoleScreen
from tui.screens.dialogs import Ask
from tui.screens.picking import Pick, Told
from tui.views import models, places
from tui.views.models import Catalogue
from tui.views.sameness import same
from tui.widgets.table import LiveTable
from tui.world import World

_ANYWHERE = ""
"""Chosen in place of a node."""
_REST_SECONDS = 0.08
_WRITES = frozenset({"load", "unload", "pin", "alias", "unalias"})


class ModelActions(Offers):
    """Loading, unloading, pinning and finding each model, by its name."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        screen = self.screen
        assert isinstance(screen, ModelsScreen)
        for model in screen.catalogue.models:
            yield f"Go to {model.id}", partial(screen.table.go_to, model.id)
            if not screen.console.readonly:
                yield f"Load {model.id}", partial(screen.load, model.id)
                if screen.catalogue.serving(model.id):
                    yield f"Unload {model.id}", partial(screen.unload, model.id)
                    yield f"Pin or unpin {model.id}", partial(screen.pin, model.id)


class ModelsScreen(ConsoleScreen):
    """Every model of the catalogue against every node: where it is, where it would fit, and why not elsewhere."""

    NAME: ClassVar = "models"
    TITLE: ClassVar = "Models"
    FEEDS: ClassVar = frozenset({"fleet", "models", "places"})
    COMMANDS: ClassVar[set[Any]] = {ModelActions}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "load", "Load"),
        Binding("u", "unload", "Unload"),
        Binding("p", "pin", "Pin or unpin"),
        Binding("a", "alias", "Add a name"),
        Binding("d", "unalias", "Drop a name", show=False),
        Binding("y", "copy", "Copy", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.catalogue = Catalogue()
        self._drawn: tuple[object, ...] = ()
        self._placed: tuple[object, ...] = ()
        self._rows = models.Rows()
        self._shown: str | None = None
        self._resting: Timer | None = None

    def body(self) -> Iterable[Widget]:
        """The models; under them what there is to say about the one under the cursor."""
        trouble = Static(id="trouble", markup=False)
        trouble.display = False
        yield trouble
        yield LiveTable(id="models")
        yield Static(id="facts")
        yield LiveTable(id="places")

    @property
    def table(self) -> LiveTable:
        """That of the models."""
        return self.query_one("#models", LiveTable)

    @property
    def places(self) -> LiveTable:
        """That of the places of one model."""
        return self.query_one("#places", LiveTable)

    def show(self, world: World) -> None:
        """Draw what is new of it: a thousand models are not looked at for each event."""
        state = (world.fleet, world.models, self.size.width, *map(world.errors.get, ("models", "places")))
        if not same(state, self._drawn):
            self._drawn = state
            self.catalogue = Catalogue.of(world)
            self._show_models(world)
        self._show_places()

    def _show_models(self, world: World) -> None:
        told = models.trouble(world)
        self.say("#trouble", Text(told) if told else None)
        columns = models.columns(self.catalogue, self.size.width - 2)
        self.table.show_rows(self._rows.of(self.catalogue, columns), columns)

    def on_filtered(self, message: Filtered) -> None:
        """Filter the models alone: the words are about these, and would hide the places of each one."""
        message.prevent_default()
        self.table.filter(message.text)
        self._show_places()

    def _show_places(self) -> None:
        """Of the model under the cursor; and have the fleet asked about it."""
        name, world = self.table.current, self.console.world
        self._ask_about(None if name is None else self.catalogue.target(name))
        state = (name, self.catalogue, world.raw.get("places"), world.errors.get("places"))
        if not same(state, self._placed):
            self._placed = state
            self._draw_places(name, world)

    def _draw_places(self, name: str | None, world: World) -> None:
        shown = [] if name is None else places.rows(world, self.catalogue, name)
        self.places.show_rows(shown, places.columns(shown, self.size.width - 2))
        if name != self._shown:
            self._shown = name
            self.places.move(0)
        note = "" if name is None else places.note(world, self.catalogue, name)
        facts = Text("") if name is None else models.facts(self.catalogue, name)
        self.say("#facts", Text.assemble(facts, (f"\n{note}" if note else "", "dim")))

    def _ask_about(self, model: str | None) -> None:
        source = self.console.source
        if source.places_of != model:
            source.places_of = model
            source.poke("places")

    @on(LiveTable.Moved, "#models")
    def _moved(self) -> None:
        """Once the cursor rests: places on many nodes take longer to draw than keys that are held down may wait."""
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_REST_SECONDS, self._show_places)

    def on_resize(self) -> None:
        """Other columns have room."""
        if self.is_mounted:
            self.show(self.console.world)

    @on(LiveTable.Opened, "#models")
    def _opened(self) -> None:
        self._show_places()  # which may still wait for the cursor to rest
        self.places.focus()

    @on(LiveTable.Opened, "#places")
    def _why(self) -> None:
        name, key = self.table.current, self.places.current
        found = places.rows(self.console.world, self.catalogue, name or "")
        row = next((row for row in found if row.key == key), None)
        if name is not None and row is not None:
            self.app.push_screen(Told(name, places.words(row.cells)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be changed through a console that may only read."""
        if action in _WRITES and self.console.readonly:
            return False
        return super().check_action(action, parameters)

    def action_copy(self) -> None:
        """The name of the model."""
        if (name := self.table.current) is not None:
            self.app.copy_to_clipboard(name)
            self.notify(f"Copied: {name}", markup=False)

    @property
    def _node(self) -> str | None:
        """The node that the cursor is on, where it is among those."""
        key = self.places.current
        return places.node_of(key) if self.places.has_focus and key is not None else None

    def action_load(self) -> None:
        """Load the model under the cursor."""
        if (name := self.table.current) is not None:
            self.load(name, self._node)

    def load(self, name: str, node: str | None = None) -> None:
        """Load a model, on this node or on one that the operator chooses."""
        if node is not None or len(self.catalogue.nodes) < 2:  # noqa: PLR2004 - there is nothing to choose
            self._load(name, node)
            return
        anywhere = (_ANYWHERE, Text("wherever there is room", "bold"))
        choices = [anywhere, *places.choices(self.console.world, self.catalogue, name)]
        self._choose(f"Where is {name} to be loaded?", choices, lambda node: self._load(name, node))

    def _load(self, name: str, node: str | None) -> None:
        question = places.price_of(self.console.world, self.catalogue.target(name), node)
        if question:
            self.console.confirmed(question, "Load", lambda: self._do_load(name, node))
        else:
            self._do_load(name, node)

    def _do_load(self, name: str, node: str | None) -> None:
        self.notify(f"{name} is being loaded.", markup=False)
        self._do(lambda it: self.console.do(it.load(self.catalogue.target(name), node), "models", "places"))

    def action_unload(self) -> None:
        """Unload the model under the cursor."""
        if (name := self.table.current) is not None:
            self.unload(name, self._node)

    def unload(self, name: str, node: str | None = None) -> None:
        """Unload a model: from this node, the only one, or one that the operator chooses."""
        self._where(name, node, f"Where is {name} to be unloaded?", lambda at: self._unload(name, at))

    def _unload(self, name: str, node: str | None) -> None:
        target, nodes = self.catalogue.target(name), [node] if node else self.catalogue.serving(name)
        flight = sum(held.in_flight for at, held in self.catalogue.places(name).items() if at in nodes)
        wait = f" It goes once {flight} requests have ended there." if flight else ""
        self.console.confirmed(
            f"Unload {target} from {models.joined(nodes)}?{wait}",
            "Unload",
            lambda: self._do(lambda it: self.console.do(it.unload(target, node), "models", "places")),
        )

    def action_pin(self) -> None:
        """Keep the model under the cursor where it is, or no longer."""
        if (name := self.table.current) is not None:
            self.pin(name, self._node)

    def pin(self, name: str, node: str | None = None) -> None:
        """Have a model stay where it is loaded whatever else needs room; or no longer, if it does."""
        self._where(name, node, f"Where is {name} to be pinned or unpinned?", lambda at: self._pin(name, at))

    def _pin(self, name: str, node: str | None) -> None:
        nodes = [node] if node else self.catalogue.serving(name)
        pinned = not all(self.catalogue.places(name)[each].pinned for each in nodes)
        target = self.catalogue.target(name)
        self._do(lambda it: self.console.do(it.pin(target, pinned=pinned, node=node), "models"))

    def _where(self, name: str, node: str | None, question: str, then: Callable[[str | None], None]) -> None:
        """One of the nodes that have a model loaded, or ``None`` for each of them."""
        serving = self.catalogue.serving(name)
        if not serving or (node is not None and node not in serving):
            self.notify(f"{name} is not loaded{f' on {node}' if node else ''}.", severity="warning", markup=False)
        elif node is not None or len(serving) == 1:
            then(node or serving[0])
        else:
            everywhere = (_ANYWHERE, Text(f"on all {len(serving)} nodes that have it", "bold"))
            held = self.catalogue.places(name)
            named = [(each, Text.assemble(f"{each}  ", models.state(held[each]))) for each in serving]
            self._choose(question, [everywhere, *named], then)

    def _choose(self, question: str, choices: list[tuple[str, Text]], then: Callable[[str | None], None]) -> None:
        def chosen(answer: str | None) -> None:
            if answer is not None:
                then(answer or None)

        self.app.push_screen(Pick(question, choices), chosen)

    def action_alias(self) -> None:
        """Give the model under the cursor a further name."""
        if (name := self.table.current) is None:
            return
        target = self.catalogue.target(name)

        def given(alias: str | None) -> None:
            if alias is not None:
                self._do(lambda it: self.console.do(it.alias(alias, target), "models"))

        question = f"A further name for {target}, until the gateway ends:"
        self.app.push_screen(Ask(question, placeholder="without spaces"), given)

    def action_unalias(self) -> None:
        """Take a further name away again: the one under the cursor, or one of the model's."""
        if (name := self.table.current) is None:
            return
        names = [name] if self.catalogue.target(name) != name else self.catalogue.names(name)
        if not names:
            self.notify(f"{name} has no further names.", severity="warning", markup=False)
        elif len(names) == 1:
            self._unalias(names[0])
        else:
            choices = [(each, Text(each)) for each in names]
            self._choose("Which name is to be dropped?", choices, lambda alias: self._unalias(alias or ""))

    def _unalias(self, alias: str) -> None:
        self.console.confirmed(
            f"Requests for {alias} will find no model any more.",
            "Drop",
            lambda: self._do(lambda it: self.console.do(it.unalias(alias), "models")),
        )

    def _do(self, doing: Callable[[Operations], None]) -> None:
        """Only with what may change something at all: the command palette knows no keys that are off."""
        if (operations := self.console.operations) is not None:
            doing(operations)
