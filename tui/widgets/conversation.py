"""A conversation with one model: what was said, and the answer as it streams."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.widgets import Collapsible, Markdown, Static
from textual.worker import Worker

from tui.chatting import Answer, Message, Parameters, asked, body
from tui.client import FleetError
from tui.shapes import Model
from tui.views import chat as view
from tui.views.safe import lines

Ask = Callable[[Mapping[str, Any]], AsyncIterator[dict[str, Any]]]
_DRAW_SECONDS: Final = 0.1
_MOST_TURNS: Final = 50
"""Of the screen's; older ones leave it, and stay in the conversation."""


def now() -> float:
    """The clock that answers are timed by, in seconds."""
    return time.monotonic()


class Turn(Vertical):
    """What the operator said, and what came of it.

    Args:
        text: the operator's.
        answer: grows, whoever listens to it.
        folded: whether reasoning is.
    """

    def __init__(self, text: str, answer: Answer, *, folded: bool) -> None:
        super().__init__()
        self.text, self.answer, self.stopped, self.running = text, answer, False, True
        self._folded, self._shown = folded, 0

    def compose(self) -> ComposeResult:
        """Question, reasoning, answer, calls, figures."""
        yield Static(view.said(self.text), classes="said")
        yield Collapsible(Static(markup=False, classes="reasoning"), title="Reasoning", collapsed=self._folded)
        yield Markdown(open_links=False)
        yield Static(classes="calls")
        yield Static(classes="problem")
        yield Static(classes="figures")

    def on_mount(self) -> None:
        """Nothing has come yet."""
        for part in ("Collapsible", ".calls", ".problem"):
            self.query_one(part).display = False

    async def draw(self) -> None:
        """Show what has come since the last time."""
        answer = self.answer
        with suppress(NoMatches):  # it has left the screen meanwhile
            self._draw_rest(answer)
            if self._shown < len(answer.content):
                begin, self._shown = self._shown, len(answer.content)
                await self.query_one(Markdown).append(lines(answer.content[begin:]))

    def _draw_rest(self, answer: Answer) -> None:
        if answer.reasoning:
            folded = self.query_one(Collapsible)
            folded.display, folded.title = True, view.thinking(answer)
            self._update(".reasoning", Text(lines(answer.reasoning), "dim italic"))
        if answer.calls:
            self.query_one(".calls").display = True
            self._update(".calls", view.calls(answer))
        self._update(".figures", view.figures(answer, now(), running=self.running, stopped=self.stopped))

    def _update(self, place: str, text: Text) -> None:
        widget = self.query_one(place, Static)
        if widget.content != text:
            widget.update(text)

    def fail(self, message: str) -> None:
        """Say why there is no answer, or no more of it."""
        widget = self.query_one(".problem", Static)
        widget.display = True
        widget.update(Text(lines(message), "red"))

    def matches(self, wanted: Sequence[str]) -> bool:
        """Whether all these words, in lower case, are in it."""
        whole = f"{self.text}\n{self.answer.content}\n{self.answer.reasoning}".lower()
        return all(each in whole for each in wanted)


class Conversation(Vertical):
    """One model's side of the screen.

    Attributes:
        model: who is talked to; ``""``: nobody yet.
        messages: said so far, as the next request tells them.
        folded: whether reasoning is.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.model = ""
        self.messages: list[Message] = []
        self.folded = True
        self._worker: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        """The model, and what was said."""
        yield Static(classes="head")
        yield VerticalScroll(classes="talk")

    @property
    def running(self) -> bool:
        """Whether an answer comes."""
        return self._worker is not None and self._worker.is_running

    @property
    def last(self) -> Turn | None:
        """The latest turn."""
        turns = self.query(Turn)
        return turns.last() if turns else None

    def show(self, models: Sequence[Model], parameters: Parameters | None) -> None:
        """The line above."""
        text, widget = view.head(self.model, models, parameters), self.query_one(".head", Static)
        if widget.content != text:
            widget.update(text)

    async def say(self, text: str, parameters: Parameters, ask: Ask, failed: Callable[[], None]) -> None:
        """Say something; the answer comes in the background.

        Args:
            text: the operator's.
            parameters: of the request.
            ask: yields the answer's chunks.
            failed: is called if there was no answer; the conversation is then as it was.
        """
        turn = Turn(text, Answer(now()), folded=self.folded)
        talk = self.query_one(VerticalScroll)
        await self._make_room()
        await talk.mount(turn)
        talk.anchor()
        said = asked(self.messages, text)
        self._worker = self.run_worker(self._hear(turn, said, ask(body(self.model, said, parameters)), failed))

    async def _make_room(self) -> None:
        for old in list(self.query(Turn))[: 1 - _MOST_TURNS]:
            await old.remove()

    async def _hear(
        self, turn: Turn, said: list[Message], answer: AsyncIterator[dict[str, Any]], failed: Callable[[], None]
    ) -> None:
        timer = turn.set_interval(_DRAW_SECONDS, turn.draw)
        try:
            async with aclosing(cast("AsyncGenerator[dict[str, Any], None]", answer)):
                async for chunk in answer:
                    turn.answer.take(chunk, now())
            self.messages = [*said, turn.answer.message()]
        except FleetError as error:
            turn.fail(str(error))
            failed()
        finally:
            timer.stop()
            turn.running = False
            self.call_later(turn.draw)

    def stop(self) -> bool:
        """End the answer that comes, and keep what came of it; whether there was one."""
        if not self.running or self._worker is None:
            return False
        self._worker.cancel()
        turn = self.last
        if turn is not None and turn.running:
            turn.stopped = True
            self._keep(turn)
        return True

    def _keep(self, turn: Turn) -> None:
        """Have half an answer in the conversation; half a call of a tool cannot be answered."""
        if turn.answer.content and not turn.answer.calls:
            self.messages = [*asked(self.messages, turn.text), turn.answer.message()]

    async def clear(self) -> None:
        """Forget what was said."""
        self.stop()
        self.messages = []
        await self.query(Turn).remove()

    def fold(self, *, folded: bool) -> None:
        """Fold reasoning, or unfold it."""
        self.folded = folded
        for each in self.query(Collapsible):
            each.collapsed = folded

    def filter(self, text: str) -> None:
        """Show only turns that hold each of the words."""
        wanted = text.lower().split()
        for turn in self.query(Turn):
            turn.display = turn.matches(wanted)
