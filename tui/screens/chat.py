"""The Chat screen."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from tui.chatting import Parameters
from tui.commands import Offers
from tui.messages import Filtered
from tui.screens.base import ConsoleScreen
from tui.screens.parameters import ParametersForm
from tui.screens.picking import Pick
from tui.views import chat as view
from tui.views.safe import line
from tui.widgets.conversation import Conversation
from tui.widgets.prompt import Prompt
from tui.world import World

_MESSAGE, _RESULT = "Enter: write to the model", "Enter: write what the tool answers"
_READONLY = "Models cannot be asked from here: this console only looks on, and answers use the fleet."


class ChatCommands(Offers):
    """Every model, to be talked to."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        if isinstance(self.screen, ChatScreen) and not self.screen.console.readonly:
            for model in self.screen.console.world.models:
                yield f"Talk to {line(model.id)}", partial(self.screen.choose, 0, model.id)
                yield f"Talk to {line(model.id)} beside", partial(self.screen.choose, 1, model.id)


class ChatScreen(ConsoleScreen):
    """Models to be tried: one, or two that answer the same."""

    NAME: ClassVar = "chat"
    TITLE: ClassVar = "Chat"
    FEEDS: ClassVar = frozenset({"fleet", "models"})
    COMMANDS: ClassVar[set[Any]] = {ChatCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,i", "write", "Write", key_display="⏎"),
        Binding("m", "model(0)", "Model"),
        Binding("M", "model(1)", "Second model", show=False),
        Binding("ctrl+t", "beside", "Beside"),
        Binding("p", "parameters", "Settings"),
        Binding("r", "reasoning", "Reasoning", show=False),
        Binding("n", "clear", "New"),
        Binding("y", "copy", "Copy", show=False),
        Binding("escape", "stop", "Stop", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._given: dict[str, str] = {}
        self._two = False

    def body(self) -> Iterable[Widget]:
        """Two conversations, of which one is hidden, and the line to write in."""
        yield Static(Text(_READONLY), classes="absence")
        with Horizontal(classes="beside"):
            yield Conversation()
            yield Conversation(classes="-second")
        yield Prompt()

    @property
    def sides(self) -> list[Conversation]:
        """Those that are shown."""
        return list(self.query(Conversation))[: 2 if self._two else 1]

    def on_mount(self) -> None:
        """With one model at first."""
        super().on_mount()
        allowed = not self.console.readonly
        self.query_one(".absence").display = not allowed
        self.query_one(".beside").display = self.query_one(Prompt).display = allowed
        self.query(Conversation).last().display = False
        self.set_focus(self.query_one(".talk") if allowed else None)

    def show(self, world: World) -> None:
        """The models above the conversations."""
        taken = ""
        for side in self.sides:
            side.model = side.model or view.first_model(world.models, taken)
            taken = side.model
            side.show(world.models, self._parameters)
        waits = any(side.messages and side.messages[-1].get("tool_calls") for side in self.sides)
        self.query_one(Prompt).placeholder = _RESULT if waits else _MESSAGE

    @property
    def _parameters(self) -> Parameters:
        return view.parameters(self._given)

    @on(Prompt.Said)
    async def _said(self, event: Prompt.Said) -> None:
        operations = self.console.operations
        if operations is None or any(side.running for side in self.sides):
            return
        if not all(side.model for side in self.sides):
            self.notify(self._nobody(), severity="warning", timeout=10, markup=False)
            return
        prompt = self.query_one(Prompt)
        prompt.clear()
        for side in self.sides:
            await side.say(event.text, self._parameters, operations.chat, partial(self._give_back, event.text))

    def _nobody(self) -> str:
        error = self.console.world.errors.get("models")
        return f"Models cannot be listed: {error}" if error else "This fleet has no model to talk to."

    def _give_back(self, text: str) -> None:
        """What got no answer can be sent again."""
        prompt = self.query_one(Prompt)
        if not prompt.text:
            prompt.text = text
            prompt.move_cursor(prompt.document.end)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing but looking on where nothing may be asked."""
        if action in ("write", "model", "beside", "parameters", "clear"):
            return not self.console.readonly
        return super().check_action(action, parameters)

    def action_write(self) -> None:
        """Take the keys for a message."""
        self.query_one(Prompt).focus()

    def action_stop(self) -> None:
        """End the answers that come; else leave the line, and filter nothing."""
        stopped = [side.stop() for side in self.sides]  # every one of them
        if not any(stopped):
            self.action_show_all()
            self.set_focus(None if self.console.readonly else self.query(".talk").first())

    def action_model(self, side: int) -> None:
        """Choose a model."""
        current = list(self.query(Conversation))[side].model
        choices = view.choices(self.console.world.models, current)
        if not choices:
            self.notify(self._nobody(), severity="warning", timeout=10, markup=False)
            return
        question = "Talk to:" if side == 0 else "And beside it to:"
        self.app.push_screen(Pick(question, choices), partial(self.choose, side))

    def choose(self, side: int, model: str | None) -> None:
        """Talk to this model; what was said before it is told, too."""
        if model is not None and not self.console.readonly:
            if side and not self._two:
                self.action_beside()
            list(self.query(Conversation))[side].model = model
            self.show(self.console.world)

    def action_beside(self) -> None:
        """Ask two models the same, or one again."""
        self._two = not self._two
        second = self.query(Conversation).last()
        second.stop()
        second.display = self._two
        self.show(self.console.world)

    def action_parameters(self) -> None:
        """Fill in the form."""
        self.app.push_screen(ParametersForm(self._given), self._take_parameters)

    def _take_parameters(self, given: dict[str, str] | None) -> None:
        if given is not None:
            self._given = given
            self.show(self.console.world)

    def action_reasoning(self) -> None:
        """Fold what models think, or unfold it."""
        folded = not self.sides[0].folded
        for side in self.query(Conversation):
            side.fold(folded=folded)

    async def action_clear(self) -> None:
        """Begin anew."""
        for side in self.query(Conversation):
            await side.clear()

    def action_copy(self) -> None:
        """The last answer; of two, both."""
        found = [(side.model, side.last.answer.content) for side in self.sides if side.last is not None]
        text = found[0][1] if len(found) == 1 else "\n\n".join(f"{model}:\n{content}" for model, content in found)
        if text:
            self.app.copy_to_clipboard(text)
            self.notify("Copied.")

    def on_filtered(self, message: Filtered) -> None:
        """Show only turns that have the words."""
        for side in self.query(Conversation):
            side.filter(message.text)
