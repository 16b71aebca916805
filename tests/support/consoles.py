"""Consoles without a terminal: what they are told is scripted, what they draw is compared as text."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from textual.message import Message
from textual.pilot import Pilot

from tui.app import Console
from tui.live import Tell
from tui.messages import Happened, LinkChanged, Seen
from tui.shapes import Event

GOLDEN = Path(__file__).parents[1] / "golden" / "console"
NOW = 1_790_000_000.0
SMALL, LARGE = (80, 24), (250, 70)
Steps = Callable[[Pilot[None]], Awaitable[None]]


@define(eq=False)
class Script:
    """A source that tells what a test says."""

    told: list[Message] = field(factory=list)
    poked: list[str] = field(factory=list)
    wanted: Callable[[], frozenset[str]] = frozenset
    tell: Tell | None = None
    logs_of: str | None = None
    places_of: str | None = None
    queries: dict[str, str] = field(factory=dict)

    async def run(self, wanted: Callable[[], frozenset[str]], tell: Tell) -> None:
        self.wanted, self.tell = wanted, tell
        tell(LinkChanged("connected"))
        for message in self.told:
            tell(message)
        await asyncio.Event().wait()

    def poke(self, *feeds: str) -> None:
        self.poked += feeds

    def say(self, *messages: Message) -> None:
        """While the console runs."""
        assert self.tell is not None
        for message in messages:
            self.tell(message)


@define(eq=False)
class Deeds:
    """Operations that only remember what they were asked for; an error is raised instead of an answer."""

    done: list[tuple[Any, ...]] = field(factory=list)
    error: Exception | None = None
    answers: dict[str, Any] = field(factory=dict)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def do(*arguments: Any, **named: Any) -> Any:
            self.done.append((name, *arguments, *sorted(named.items())))
            if self.error is not None:
                raise self.error
            return self.answers.get(name, f"{name} done.")

        return do

    async def aclose(self) -> None:
        """Nothing is open."""


def seen(at: float = NOW, **answers: Any) -> list[Message]:
    """What feeds answered."""
    return [Seen(feed, data, at) for feed, data in answers.items()]


def happened(*events: tuple[str, dict[str, Any]]) -> Happened:
    return Happened([Event(number, NOW, kind, data) for number, (kind, data) in enumerate(events, start=1)])


def console(*told: Message, readonly: bool = False) -> tuple[Console, Script, Deeds]:
    """One that is told this at its start."""
    script, deeds = Script(list(told)), Deeds()
    operations: Any = None if readonly else deeds
    return Console(script, operations, "http://fleet:31313"), script, deeds


def run(app: Console, steps: Steps, size: tuple[int, int] = SMALL) -> None:
    """Run a console, and these steps on it. Blinking and animations would make what it draws depend on time."""

    async def main() -> None:
        async with app.run_test(size=size) as pilot:
            app.animation_level = "none"
            await settle(pilot)
            await steps(pilot)

    asyncio.run(main())


async def settle(pilot: Pilot[None]) -> None:
    """Until everything that was told is drawn; twice, as a pane knows its width once it has been laid out."""
    app = pilot.app
    assert isinstance(app, Console)
    await pilot.pause()
    for _ in range(2):
        app._draw()
        await pilot.pause()


def text(app: Console) -> str:
    """What is drawn, as text without trailing spaces."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def compare(app: Console, name: str) -> None:
    """Hold what is drawn against ``tests/golden/console/NAME.txt``; ``HELEXA_GOLDEN=write`` writes it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("HELEXA_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(app))
    assert text(app) == path.read_text()
