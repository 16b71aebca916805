"""What the Fleet screen shows: nodes, under each its devices and the models that it holds. Pure."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from attrs import frozen
from rich.text import Text

from helexa.wire.fleet import DeviceHealth
from tui.shapes import Coming, Fleet, Held, Node
from tui.views.figures import throughput
from tui.widgets.folding import Entry, Group
from tui.widgets.sparkline import latest
from tui.world import World

ORDERS: Final = ("as configured", "trouble first", "busiest first")
_HOT: Final = ("thermal", "thermal_slowdown", "slowdown", "power_brake")
"""Why a device is slow that an operator should look at; a cap that somebody has set is none of it."""


@frozen
class Thing:
    """A node; one of its devices; a model on it."""

    node: Node
    device: DeviceHealth | None = None
    model: Held | None = None

    @property
    def name(self) -> str:
        """What it is called where it is to be found."""
        if self.model is not None:
            return self.model.id
        return self.node.name if self.device is None else f"{self.node.name} {self.device.name}"


def groups(fleet: Fleet, order: str = ORDERS[0]) -> tuple[Group, ...]:
    """A group for each node, in one of the ``ORDERS``."""
    loads: dict[str, list[Coming]] = {}
    for load in fleet.loads:
        loads.setdefault(load.node, []).append(load)
    return tuple(_group(node, loads.get(node.name, ())) for node in ordered(fleet.nodes, order))


def ordered(nodes: Sequence[Node], order: str) -> Sequence[Node]:
    """Nodes in one of the ``ORDERS``; those that are alike stay as they are configured."""
    if order == ORDERS[1]:
        return sorted(nodes, key=lambda node: -trouble(node))
    if order == ORDERS[2]:
        return sorted(nodes, key=lambda node: tuple(-each for each in work(node)))
    return nodes


def trouble(node: Node) -> int:
    """How bad it is with a node: 3 down, 2 something on it has failed, 1 a device is hot, 0 all is well."""
    if not node.up:
        return 3
    if any(device.error for device in node.devices) or any(model.status == "failed" for model in node.models):
        return 2
    return int(any(is_hot(device) for device in node.devices))


def is_hot(device: DeviceHealth) -> bool:
    """Whether a device is slowed down by what nobody has set."""
    return any(each in _HOT for each in device.throttled)


def work(node: Node) -> tuple[int, int]:
    """How many sequences run on a node, and how many wait."""
    return sum(model.running for model in node.models), sum(model.waiting for model in node.models)


def _group(node: Node, loads: Iterable[Coming]) -> Group:
    devices = [Entry(f"{node.name}\0{each.name}", Thing(node, device=each)) for each in node.devices if node.up]
    models = [Entry(f"{node.name}\0\0{each.id}", Thing(node, model=each)) for each in held(node, loads)]
    return Group(Entry(node.name, Thing(node)), (*devices, *models))


def held(node: Node, loads: Iterable[Coming]) -> list[Held]:
    """The models that a node has or is about to have, and those that it failed to load.

    A load that the node has not told of yet is known to the gateway already.
    """
    if not node.up:
        return []
    coming = {load.model: Held(load.model, "loading", load.device) for load in loads}
    told = [coming.pop(model.id, model) if model.status == "unloaded" else model for model in node.models]
    known = {model.id for model in told if model.status != "unloaded"}
    return [
        *(model for model in told if model.status != "unloaded"),
        *(each for model, each in coming.items() if model not in known),
    ]


def words(entry: Entry) -> str:
    """What a filter looks at."""
    thing: Thing = entry.content
    if thing.model is not None:
        state = "draining" if thing.model.draining else thing.model.status
        return f"{thing.model.id} {state} {'pinned' if thing.model.pinned else ''} {thing.model.device}".lower()
    if thing.device is not None:
        return (
            f"{thing.device.name} {kind(thing.node, thing.device.name)} {'error' if thing.device.error else ''}".lower()
        )
    return f"{thing.node.name} {'up' if thing.node.up else 'down'} {thing.node.endpoint}".lower()


def kind(node: Node, device: str) -> str:
    """What a device is, in its maker's words; ``""``: the node did not tell."""
    known = node.discovery.devices if node.discovery is not None else ()
    return next((each.kind for each in known if each.name == device), "")


def tokens(world: World, nodes: Iterable[Node], count: int) -> list[float | None]:
    """The last readings of how many tokens a second the models of nodes make together, the newest last."""
    found = [
        latest(course.values.get("tokens"), count)
        for node in nodes
        for model in node.models
        if (course := world.rates.get((node.name, model.id))) is not None
    ]
    added = [_sum(each) for each in zip_longest(*(each[::-1] for each in found))]
    return added[::-1]


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


@frozen
class Sums:
    """The fleet in a few figures.

    Attributes:
        nodes: how many there are; ``down`` of them do not answer.
        models: how many are loaded, counted on each node; ``loading`` of further ones are on their way.
        rate: tokens a second.
    """

    nodes: int
    down: int
    devices: int
    models: int
    loading: int
    failed: int
    running: int
    waiting: int
    rate: float

    @classmethod
    def of(cls, world: World, fleet: Fleet) -> "Sums":
        """Add a fleet up."""
        up = [node for node in fleet.nodes if node.up]
        states = [model.status for node in up for model in node.models]
        jobs = [work(node) for node in up]
        return cls(
            len(fleet.nodes),
            len(fleet.nodes) - len(up),
            sum(len(node.devices) for node in up),
            states.count("loaded"),
            max(states.count("loading") + states.count("recovering"), len(fleet.loads)),
            states.count("failed"),
            sum(running for running, _ in jobs),
            sum(waiting for _, waiting in jobs),
            next(iter(tokens(world, up, 1)), None) or 0.0,
        )


def summary(sums: Sums, width: int) -> Text:
    """One line; what does not fit is left out from its end."""
    line = Text()
    for text, style in _parts(sums):
        part = Text(text, style)
        gap = " " if not line else "  ·  " if width > 100 else " · "  # noqa: PLR2004 - there is room to breathe
        if line.cell_len + len(gap) + part.cell_len > width:
            break
        line.append(gap, "dim")
        line.append_text(part)
    return line


def _parts(sums: Sums) -> Iterable[tuple[str, str]]:
    yield _count(sums.nodes, "node"), "bold"
    if sums.down:
        yield f"{sums.down} down", "bold red"
    yield throughput(sums.rate), "bold blue" if sums.rate else ""
    yield f"{sums.running} running", ""
    if sums.waiting:
        yield f"{sums.waiting} waiting", "yellow"
    yield f"{sums.models} loaded", ""
    if sums.loading:
        yield f"{sums.loading} loading", "yellow"
    if sums.failed:
        yield f"{sums.failed} failed", "red"
    yield _count(sums.devices, "device"), "dim"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def notice(world: World, lines: int) -> Text | None:
    """What is wrong with the latest edit of the topology, in so many lines at most; ``None``: nothing is."""
    problems = () if world.fleet is None else world.fleet.topology.problems
    if not problems:
        return None
    count = "" if len(problems) == 1 else f" ({len(problems)} things are wrong with it)"
    text = Text.assemble((f"! The latest edit of the topology is not in force{count}:", "bold yellow"))
    for problem in problems[: lines - 1]:
        text.append(f"\n  {' '.join(problem.split())}")
    return text


def absence(world: World) -> Text | None:
    """What is said instead of a list; ``None``: there is one."""
    if world.fleet is None:
        return Text.assemble((world.errors.get("fleet") or "Looking for the fleet …", "dim"))
    if not world.fleet.nodes:
        return Text.assemble(
            ("There is no node in this fleet.\n\n", "bold"),
            ("A node is an entry [[neurons]] of the topology file. What is added there while the fleet runs ", "dim"),
            ("is taken up within a second.", "dim"),
        )
    return None
