"""What the Models screen shows: every model, and for each node whether it has it or could have it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import field, frozen
from rich.text import Text

from tui.glyphs import named, sign
from tui.shapes import Coming, Fleet, Held, Model
from tui.views.figures import size, span, throughput, tokens
from tui.widgets.table import Cell, Column, Row
from tui.world import World

_HELD: Final = ("loaded", "recovering", "loading", "failed")
"""Statuses that are worth showing on a node, the best first."""
_GAP: Final = 2
"""Characters that a table leaves beside each cell."""
_STATUS_WIDTH: Final = 12
_NODE_WIDTHS: Final = (10, 16)
_MORE: Final = (
    Column("can", "CAN", 24),
    Column("context", "CONTEXT", 8, right=True),
    Column("memory", "MEMORY", 9, right=True),
    Column("flight", "IN FLIGHT", 9, right=True),
    Column("rate", "RATE", 12, right=True),
    Column("price", "$/M IN/OUT", 12, right=True),
)
_MORE_FROM: Final = 150
"""Characters from which on there is room for these."""


@frozen
class Catalogue:
    """The models of a fleet, and where each one is.

    Attributes:
        models: entries of ``/v1/models``, aliases among them.
        nodes: names of all nodes.
        aliases: models by the further names that they have.
        held: for each model the nodes that have it, or try to, with what they tell of it.
        rates: new tokens a second of each model, by its name.
    """

    models: tuple[Model, ...] = ()
    nodes: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(factory=dict)
    held: Mapping[str, Mapping[str, Held]] = field(factory=dict)
    rates: Mapping[str, float] = field(factory=dict)

    @classmethod
    def of(cls, world: World) -> "Catalogue":
        """From what is known now."""
        fleet = world.fleet or Fleet()
        rates: dict[str, float] = {}
        for (_, model), course in world.rates.items():
            rates[model] = rates.get(model, 0.0) + (course.last("tokens") or 0.0)
        nodes = tuple(node.name for node in fleet.nodes)
        return cls(world.models, nodes, dict(fleet.aliases), _held(fleet), rates)

    def target(self, name: str) -> str:
        """What a name stands for."""
        return self.aliases.get(name, name)

    def places(self, name: str) -> Mapping[str, Held]:
        """The nodes that have a model, or try to."""
        return self.held.get(self.target(name), {})

    def serving(self, name: str) -> list[str]:
        """The nodes that have it loaded."""
        return [node for node, held in self.places(name).items() if held.status == "loaded"]

    def model(self, name: str) -> Model | None:
        """The entry of that name."""
        return next((model for model in self.models if model.id == name), None)

    def names(self, model: str) -> list[str]:
        """The further names of a model."""
        return [alias for alias, target in self.aliases.items() if target == model]


def _held(fleet: Fleet) -> dict[str, dict[str, Held]]:
    """What nodes that are up have; and what is only about to be loaded there, which they do not tell of yet."""
    found: dict[str, dict[str, Held]] = {}
    for node in fleet.nodes:
        for model in node.models if node.up else ():
            if model.status in _HELD:
                found.setdefault(model.id, {})[node.name] = model
    for load in fleet.loads:
        found.setdefault(load.model, {}).setdefault(load.node, _coming(load))
    return found


def _coming(load: Coming) -> Held:
    return Held(id=load.model, status="loading", device=load.device or None)


def columns(catalogue: Catalogue, width: int) -> tuple[Column, ...]:
    """The table's columns: one for each node, as long as there is room for all; else one that names the nodes.

    Args:
        catalogue: whose names they have room for.
        width: characters that there are.
    """
    more = _MORE if width >= _MORE_FROM else ()
    longest = max((len(_title(catalogue, model.id)) for model in catalogue.models), default=0)
    used = _STATUS_WIDTH + sum(column.width or 0 for column in more) + _GAP * (len(more) + 2)
    name = min(longest, max(20, width // 3))
    nodes = [Column(f"@{node}", _cut(node), _node_width(node)) for node in catalogue.nodes]
    room = width - used - max(20, name)
    if sum((column.width or 0) + _GAP for column in nodes) > room or not nodes:
        nodes = [Column("where", "WHERE", max(12, room - _GAP))]
    return (Column("model", "MODEL", max(20, name)), Column("status", "STATUS", _STATUS_WIDTH), *nodes, *more)


def _node_width(node: str) -> int:
    low, high = _NODE_WIDTHS
    return min(high, max(low, len(node)))


def _cut(node: str) -> str:
    most = _NODE_WIDTHS[1]
    return node if len(node) <= most else f"{node[: most - 1]}…"


def _title(catalogue: Catalogue, name: str) -> str:
    target = catalogue.target(name)
    return name if target == name else f"{name} = {target}"


class Rows:
    """Makes the table's rows, and keeps them: of a thousand models few are others than a second ago."""

    def __init__(self) -> None:
        self._frame: object = None
        self._kept: dict[str, tuple[object, Row]] = {}

    def of(self, catalogue: Catalogue, shown: Iterable[Column]) -> list[Row]:
        """A row for each model, with the cells of these columns; the same object as before where nothing is new."""
        keys = {column.key for column in shown}
        frame = (keys, catalogue.nodes, catalogue.aliases)
        before = self._kept if frame == self._frame else {}
        self._frame, self._kept = frame, {}
        for model in catalogue.models:
            state = _state(catalogue, model)
            kept = before.get(model.id)
            row = kept[1] if kept is not None and kept[0] == state else _row(catalogue, model, keys)
            self._kept[model.id] = state, row
        return [row for _, row in self._kept.values()]


def _state(catalogue: Catalogue, model: Model) -> object:
    """All that a model's row shows, and nothing else: how long it is idle differs every second."""
    held = [
        (node, it.status, it.pinned, it.draining, it.progress, it.memory_mb + it.kv_mb, it.in_flight)
        for node, it in catalogue.places(model.id).items()
    ]
    return model, held, catalogue.rates.get(catalogue.target(model.id))


def _row(catalogue: Catalogue, model: Model, keys: set[str]) -> Row:
    held = catalogue.places(model.id)
    cells: dict[str, Cell] = {"model": _name(catalogue, model.id), "status": status_of(model, held)}
    if "where" in keys:
        cells["where"] = _where(model, held)
    else:
        cells |= {f"@{node}": _at(node, model, held) for node in catalogue.nodes}
    if "can" in keys:
        cells |= _figures(catalogue, model, held)
    words = " ".join((_title(catalogue, model.id), str(cells["status"]), *held, *model.capabilities))
    return Row(model.id, cells, words.lower())


def _name(catalogue: Catalogue, name: str) -> Text:
    target = catalogue.target(name)
    return Text(name) if target == name else Text.assemble(name, (f" = {target}", "dim"))


def status_of(model: Model, held: Mapping[str, Held]) -> Text:
    """The best status that it has anywhere; how far it is, if it is on its way."""
    found = [each for status in _HELD for each in held.values() if each.status == status]
    return state(found[0]) if found else named(model.status or "unloaded")


def state(held: Held) -> Text:
    """What a model is on a node, in a word or two."""
    if held.draining:
        return named("draining")
    if held.status == "loaded" and held.pinned:
        return named("pinned")
    if held.status in ("loading", "recovering") and (part := progress(held)) is not None:
        return Text.assemble(sign(held.status), f" {held.status[:4]} {part:.0%}")
    return named(held.status)


def progress(held: Held) -> float | None:
    """How far a load has come, 0 to 1; ``None``: nobody knows."""
    told = held.progress
    return None if told is None or not told.total else min(1.0, told.done / told.total)


def _at(node: str, model: Model, held: Mapping[str, Held]) -> Text:
    if node in held:
        return state(held[node])
    return named("fits") if node in model.feasible_on else sign("never")


def _where(model: Model, held: Mapping[str, Held]) -> Text:
    """The nodes that have it, then how many others could."""
    found = Text(", ").join(Text.assemble(sign(each.status), f" {node}") for node, each in held.items())
    others = sum(node not in held for node in model.feasible_on)
    if not others:
        return found or Text.assemble(sign("never"), (" fits nowhere", "dim"))
    told = f"fits on {others}{' more' if held else ''}"
    return Text.assemble(found, "; " if held else "", (told, "dim" if held else ""))


def _figures(catalogue: Catalogue, model: Model, held: Mapping[str, Held]) -> dict[str, Cell]:
    memory = sum(each.memory_mb + each.kv_mb for each in held.values())
    rate, flight = catalogue.rates.get(catalogue.target(model.id)), sum(each.in_flight for each in held.values())
    return {
        "can": ", ".join(model.capabilities),
        "context": tokens(model.limit.context) if model.limit else "",
        "memory": size(memory) if memory else "",
        "flight": str(flight) if held else "",
        "rate": throughput(rate) if held else "",
        "price": price(model),
    }


def price(model: Model) -> str:
    """US dollars for a million tokens read, and for as many written; ``""``: nothing is accounted."""
    cost = model.cost or {}
    read, written = cost.get("input", 0.0), cost.get("output", 0.0)
    return f"{read:g}/{written:g}" if read or written else ""


def facts(catalogue: Catalogue, name: str) -> Text:
    """What there is to say of a model in a line or two."""
    model = catalogue.model(name)
    if model is None:
        return Text("")
    target = catalogue.target(name)
    parts = [f"{name} stands for {target}"] if target != name else []
    parts += (
        [f"also {', '.join(names)}"] if (names := [each for each in catalogue.names(target) if each != name]) else []
    )
    parts += [f"context {tokens(model.limit.context)}"] if model.limit else []
    parts += [", ".join(model.capabilities)] if model.capabilities else []
    parts += [f"${price(model)} per million tokens in/out"] if price(model) else []
    return Text.assemble((target, "bold"), "  ", "  |  ".join(parts))


def idle(held: Held) -> str:
    """What a model that is loaded does, in words."""
    if held.running or held.waiting or held.in_flight:
        waiting = f", {held.waiting} waiting" if held.waiting else ""
        return f"{held.running} of {held.capacity or '?'} sequences running{waiting}"
    return "idle" if held.idle_seconds is None else f"idle for {span(held.idle_seconds)}"


def trouble(world: World) -> str:
    """Why there is nothing in the table; ``""``: there is something, or it is to come yet."""
    if (error := world.errors.get("models")) is not None:
        return f"The models cannot be read: {error}"
    if world.fleet is not None and not world.fleet.nodes and not world.models:
        return "This fleet has no nodes and no models yet: name them in its topology file."
    if world.fleet is not None and not world.fleet.catalogue and not world.models:
        return "The catalogue is empty: add [[models]] to the topology file."
    return ""


def joined(names: Sequence[str]) -> str:
    """Names in a sentence; of many only how many."""
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} nodes"  # noqa: PLR2004 - what a line has room for
