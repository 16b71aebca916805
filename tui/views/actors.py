"""What the Actors screen shows: the processes of a fleet, and under each the actors that it supervises. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import evolve, frozen
from rich.text import Text

from tui.glyphs import named, sign
from tui.shapes import Actor, Node
from tui.views.figures import fit, span
from tui.views.page import Page
from tui.widgets.folding import Entry, Group
from tui.world import World

ORDERS: Final = ("as supervised", "trouble first")
GATEWAY: Final = "gateway"
DEEP: Final = 100
"""Unread messages from which a mailbox is shown as one that piles up."""
_WORST: Final = ("failed", "down", "backoff", "starting", "stopped")
_MEANING: Final = {
    "starting": "It has been started, and does not serve yet.",
    "running": "It serves.",
    "backoff": "It crashed, and is started again after a pause.",
    "failed": "It crashed more often than it may, and is not started again.",
    "stopped": "It was stopped.",
    "up": "It answers.",
    "down": "It does not answer; what its actors do is not known.",
}


@frozen
class Process:
    """A process of the fleet.

    Attributes:
        name: of the node; of the gateway, ``gateway``.
        node: ``None``: it is the gateway, or the fleet does not tell of it.
        actor: of the gateway that keeps it running; ``None``: none does, as on other hosts.
        actors: its own.
    """

    name: str
    node: Node | None = None
    actor: Actor | None = None
    actors: tuple[Actor, ...] = ()

    @property
    def state(self) -> str:
        """That of the process; its actors have theirs."""
        if self.actor is not None and self.actor.state != "running":
            return self.actor.state
        return "down" if self.node is not None and not self.node.up else "up"

    @property
    def error(self) -> str:
        """What is or was wrong with it."""
        if self.node is not None and not self.node.up:
            return self.node.error or "not seen yet"
        return "" if self.actor is None else self.actor.last_error or ""


@frozen
class Member:
    """An actor, and whose it is."""

    process: str
    actor: Actor


def processes(actors: Iterable[Actor], nodes: Sequence[Node]) -> tuple[Process, ...]:
    """The gateway first, then the nodes; an actor that keeps a node's process running is told of there.

    Args:
        actors: as the gateway lists them: its own, then those of nodes as ``node/actor``.
        nodes: of the fleet.
    """
    own, others = dict[str, Actor](), dict[str, list[Actor]]()
    known = {node.name for node in nodes}
    for actor in actors:
        owner, name = _owner(actor.name, known)
        if owner:
            others.setdefault(owner, []).append(evolve(actor, name=name))
        else:
            own[name] = actor
    found = [Process(node.name, node, own.pop(node.name, None), tuple(others.pop(node.name, ()))) for node in nodes]
    more = [Process(name, None, own.pop(name, None), tuple(theirs)) for name, theirs in others.items()]
    return (Process(GATEWAY, actors=tuple(own.values())), *found, *more)


def _owner(name: str, nodes: Iterable[str]) -> tuple[str, str]:
    """Node and actor of a listed name. Names of workers may have a slash themselves, after their device's colon."""
    first, slash, rest = name.partition("/")
    return (first, rest) if slash and (first in nodes or ":" not in first) else ("", name)


def badness(state: str) -> int:
    """How bad a state is; 0: it is fine."""
    return len(_WORST) - _WORST.index(state) if state in _WORST else 0


def groups(found: Iterable[Process], order: str = ORDERS[0]) -> tuple[Group, ...]:
    """A group for each process, in one of the ``ORDERS``."""
    shown = tuple(_group(process, order) for process in found)
    return tuple(sorted(shown, key=lambda group: -worst(group.head.content))) if order == ORDERS[1] else shown


def worst(process: Process) -> int:
    """How bad it is with a process or the worst of its actors."""
    return max((badness(process.state), *(badness(actor.state) for actor in process.actors)))


def _group(process: Process, order: str) -> Group:
    actors = process.actors
    if order == ORDERS[1]:
        actors = tuple(sorted(actors, key=lambda actor: (-badness(actor.state), -actor.restarts)))
    entries = tuple(Entry(f"{process.name}\0{actor.name}", Member(process.name, actor)) for actor in actors)
    return Group(Entry(process.name, process), entries)


def summary(found: Sequence[Process], width: int) -> Text:
    """One line."""
    states = Counter(actor.state for process in found for actor in process.actors)
    kept = [process.actor for process in found if process.actor is not None]
    restarts = sum(actor.restarts for actor in (*kept, *(actor for process in found for actor in process.actors)))
    line = Text.assemble((f" {sum(states.values())} actors", "bold"), f" in {len(found)} processes")
    for state, count in sorted(states.items(), key=lambda each: badness(each[0])):
        style = "red" if state == "failed" else "yellow" if badness(state) else "dim"
        line.append_text(Text.assemble((" · ", "dim"), (f"{count} {state}", style)))
    line.append(f" · {restarts} restarts", "dim")
    line.truncate(width, overflow="ellipsis")
    return line


def absence(world: World) -> Text | None:
    """What is said instead of a list; ``None``: there is one."""
    if world.actors:
        return None
    return Text.assemble((world.errors.get("actors") or "Asking for the actors …", "dim"))


def notice(world: World) -> Text | None:
    """That what is shown is old, and why."""
    error = world.errors.get("actors") if world.actors else None
    return None if error is None else Text.assemble(("! Not read any more: ", "bold yellow"), error)


@frozen
class _Columns:
    name: int
    error: int

    @classmethod
    def of(cls, width: int) -> "_Columns":
        name = max(16, min(48, width // 3))
        return cls(name, max(0, width - name - 34))


class ActorsPainter:
    """Makes lines of processes and actors.

    Args:
        unicode: whether there is more than ASCII.
    """

    def __init__(self, *, unicode: bool) -> None:
        self._unicode = unicode

    def title(self, width: int) -> Text:
        """What the columns are."""
        return _line(width, "  PROCESS  ACTOR", "STATE", "FOR", "RESTARTS", "UNREAD", "LAST ERROR")

    def head(self, group: Group, width: int, *, folded: bool) -> Text:
        """A process."""
        process: Process = group.head.content
        closed, opened = ("▸", "▾") if self._unicode else ("+", "-")
        mark = " " if not group.entries else closed if folded else opened
        name = Text.assemble(
            (f" {mark} ", "dim"), sign(process.state, unicode=self._unicode), (f" {process.name}", "bold")
        )
        actor = process.actor
        since = "" if actor is None else span(actor.since_seconds)
        restarts = Text("") if actor is None else _count(actor.restarts, 1)
        said = (
            Text.assemble((process.error, "red" if badness(process.state) else "dim"))
            if process.error
            else _members(process)
        )
        return _line(width, name, process.state, since, restarts, "", said)

    def entry(self, entry: Entry, width: int) -> Text:
        """An actor."""
        actor: Actor = entry.content.actor
        name = Text.assemble("    ", sign(actor.state, unicode=self._unicode), f" {actor.name}")
        style = "red" if actor.state == "failed" else "yellow" if badness(actor.state) else "dim"
        error = Text.assemble((actor.last_error or "", style))
        unread = _count(actor.mailbox_depth, DEEP)
        state = Text.assemble((actor.state, style if badness(actor.state) else ""))
        return _line(width, name, state, span(actor.since_seconds), _count(actor.restarts, 1), unread, error)

    def words(self, entry: Entry) -> str:
        """What a filter looks at."""
        if isinstance(entry.content, Process):
            return f"{entry.content.name} {entry.content.state} {entry.content.error}".lower()
        actor: Actor = entry.content.actor
        return f"{actor.name} {actor.state} {actor.last_error or ''}".lower()


def _members(process: Process) -> Text:
    """How the actors of a process are, for when they are folded away."""
    states = Counter(actor.state for actor in process.actors if badness(actor.state))
    if states:
        return Text.assemble((", ".join(f"{count} {state}" for state, count in states.items()), "yellow"))
    count = len(process.actors)
    return Text.assemble((f"{count} actor{'' if count == 1 else 's'}" if count else "", "dim"))


def _count(number: int, many: int) -> Text:
    return Text.assemble((f"{number:,}", "yellow" if number >= many else "dim"))


def _line(width: int, *cells: str | Text) -> Text:
    """Name, state, how long it has been in it, restarts, unread messages, last error."""
    columns = _Columns.of(width)
    widths = (columns.name, 8, 4, 8, 7, columns.error)
    shown = [fit(cell, wide, right=2 <= at < 5) for at, (cell, wide) in enumerate(zip(cells, widths, strict=True))]  # noqa: PLR2004 - figures
    return Text.assemble(Text(" ").join(shown[:5]), "   ", shown[5])


def details(content: Process | Member, page: Page) -> Text:
    """All that is known of a process or an actor."""
    if isinstance(content, Process):
        return Text("\n").join(_process(content, page))
    actor = content.actor
    title = Text.assemble((actor.name, "bold"), "  ", named(actor.state))
    return Text("\n").join([title, Text(), page.fact("of", content.process), *_actor(actor, page)])


def _process(process: Process, page: Page) -> Iterable[Text]:
    yield Text.assemble((process.name, "bold"), "  ", named(process.state))
    yield Text()
    if process.actor is not None:
        yield page.fact("runs as", "a child process of the gateway")
        yield from _actor(process.actor, page)
    else:
        yield page.fact("", _MEANING[process.state])
    if process.node is not None:
        yield page.fact("endpoint", process.node.endpoint)
        if not process.node.up:
            yield page.fact("error", Text(process.node.error or "not seen yet", "red"))
    for state, count in Counter(actor.state for actor in process.actors).items():
        yield page.fact("actors", f"{count} {state}")


def _actor(actor: Actor, page: Page) -> Iterable[Text]:
    yield page.fact("state", f"{actor.state} for {span(actor.since_seconds)}. {_MEANING.get(actor.state, '')}")
    yield page.fact("restarts", str(actor.restarts))
    yield page.fact("unread", f"{actor.mailbox_depth:,} message{'' if actor.mailbox_depth == 1 else 's'}")
    if actor.last_error:
        yield page.fact("last error", Text(actor.last_error, "red" if badness(actor.state) else ""))
