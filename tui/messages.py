"""What the console's parts tell each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from textual.message import Message

from tui.shapes import Event

LinkState: TypeAlias = Literal["connecting", "connected", "lost", "refused", "strange", "replay", "paused", "ended"]
"""Not asked yet; answers; answered before, and does not any more; does not let this key in; answers, but not as a
fleet does; a recording runs, stands still, is over."""


@dataclass
class Seen(Message):
    """A feed was read. Of several that wait, the newest is enough.

    Attributes:
        feed: its name, see ``tui.feeds``.
        data: plain JSON; ``None`` with an ``error``.
        at: when, Unix time in seconds; of a recording, the time it tells of.
        error: why it cannot be read; for the operator.
    """

    feed: str
    data: Any
    at: float
    error: str | None = None

    def can_replace(self, message: Message) -> bool:
        """Whether an older one need not be read any more."""
        return isinstance(message, Seen) and message.feed == self.feed and self.feed not in ADDING


ADDING = frozenset({"logs"})
"""Feeds whose every answer holds something that no later one has."""


@dataclass
class Happened(Message):
    """Events of the fleet, in order; those of a moment come together."""

    events: Sequence[Event]


@dataclass
class LinkChanged(Message):
    """The fleet is there, or is not; ``reason`` is for the operator."""

    state: LinkState
    reason: str = ""


@dataclass
class Filtered(Message):
    """What the operator wants to see of a list; empty: everything."""

    text: str


@dataclass
class LogWanted(Message):
    """What the Logs screen is to look for.

    Attributes:
        words: as its filter takes them.
        node: in whose log; ``""``: the gateway's.
    """

    words: str
    node: str = ""
