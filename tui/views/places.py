"""Where one model is, where it could be, and why not elsewhere: the lower part of the Models screen. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from rich.text import Text

from tui.glyphs import named
from tui.shapes import Held
from tui.views.figures import size
from tui.views.models import Catalogue, idle, progress, state
from tui.widgets.table import Cell, Column, Row
from tui.world import World

_THERE: Final = ("loaded", "recovering", "loading")
_SEPARATOR: Final = "\0"


@frozen
class Site:
    """A place of ``/fleet/models/{model}/places``; see ``helexa.cortex.routing.rooms.Site``."""

    node: str = "?"
    device: str | None = None
    others: tuple[Mapping[str, Any], ...] = ()
    need_mb: int = 0
    free_mb: int = 0
    total_mb: int = 0
    evicts: tuple[str, ...] = ()
    verdict: str = "never"
    reason: str | None = None


def sites(world: World, model: str) -> tuple[Site, ...] | None:
    """What the fleet told of the places of a model; ``None``: not yet, or of another one."""
    told = world.raw.get("places")
    if not isinstance(told, Mapping) or told.get("id") != model:
        return None
    return tuple(_read(each) for each in _list(told.get("sites")) if isinstance(each, Mapping))


def columns(rows: Sequence[Row], width: int) -> tuple[Column, ...]:
    """The columns that so many characters have room for; the reason has what these rows leave of them."""
    node, device = (max((len(str(row.cells[key])) for row in rows), default=0) for key in ("node", "device"))
    roomy = width >= 120  # noqa: PLR2004 - beside a reason of half a line
    fixed = (
        Column("node", "NODE", min(32 if roomy else 16, max(8, node))),
        Column("state", "STATE", 11),
        Column("device", "DEVICE", min(32 if roomy else 10, max(6, device))),
        Column("need", "NEEDS", 8, right=True),
        *((Column("free", "FREE", 20, right=True),) if roomy else ()),
    )
    left = width - sum((column.width or 0) + 2 for column in fixed) - 2
    return (*fixed, Column("why", "WHY", max(12, left)))


def rows(world: World, catalogue: Catalogue, name: str) -> list[Row]:
    """A row for each node, or for each of its devices where they differ; those that have the model first."""
    model, held = catalogue.target(name), catalogue.places(name)
    there = {node: each for node, each in held.items() if each.status in _THERE}
    found = sites(world, model)
    others: Iterable[Row]
    if found is None:
        others = _guessed(catalogue, name, held, there)
    else:
        others = (_row(site) for site in found if site.node not in there)
    shown = [*(_held_row(node, each) for node, each in there.items()), *others]
    return list({row.key: row for row in shown}.values())


def note(world: World, catalogue: Catalogue, name: str) -> str:
    """Why there are no reasons to be read; ``""``: there are."""
    if sites(world, catalogue.target(name)) is not None:
        return ""
    return world.errors.get("places", "asking the fleet why not elsewhere …")


def node_of(key: str) -> str:
    """The node that a row is about."""
    return key.partition(_SEPARATOR)[0]


def evicted(world: World, model: str, node: str | None) -> tuple[str, ...]:
    """The models that make room if one is loaded, on this node or, with ``None``, where it fits best."""
    there = [each for each in sites(world, model) or () if each.verdict == "fits" and node in (None, each.node)]
    return there[0].evicts if there else ()


def price_of(world: World, model: str, node: str | None) -> str:
    """What an operator should know before a model is loaded; ``""``: nothing has to go for it."""
    if sites(world, model) is None:
        return f"Other models may be unloaded to make room for {model}: the fleet has not told yet."
    gone = evicted(world, model, node)
    return f"{', '.join(gone)} would be unloaded to make room for {model}." if gone else ""


def choices(world: World, catalogue: Catalogue, name: str) -> list[tuple[str, Text]]:
    """Each node once, with the best that can be said of it."""
    found: dict[str, Text] = {}
    for row in rows(world, catalogue, name):
        cells = row.cells
        said = Text.assemble(f"{node_of(row.key)}  ", cells["state"], f"  {cells['why']}")
        found.setdefault(node_of(row.key), said)
    return list(found.items())


def words(row: Mapping[str, Cell]) -> str:
    """A row as a sentence, for those that the table cuts."""
    device = f", {row['device']}" if str(row["device"]) else ""
    free = f" Free: {row['free']}." if str(row.get("free", "")) else ""
    need = f" Needs {row['need']}." if str(row["need"]) else ""
    return f"{row['node']}{device}: {str(row['why']) or row['state']}.{need}{free}"


def _read(data: Mapping[str, Any]) -> Site:
    """Leniently, as ``tui.shapes`` reads: what has another type counts as missing."""
    return Site(
        node=str(data.get("node", "?")),
        device=_text(data.get("device")),
        others=tuple(each for each in _list(data.get("others")) if isinstance(each, Mapping)),
        need_mb=_count(data.get("need_mb")),
        free_mb=_count(data.get("free_mb")),
        total_mb=_count(data.get("total_mb")),
        evicts=tuple(map(str, _list(data.get("evicts")))),
        verdict=str(data.get("verdict", "never")),
        reason=_text(data.get("reason")),
    )


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) else None


def _count(given: Any) -> int:
    return given if isinstance(given, int) else 0


def _list(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else ()


def _key(node: str, device: str | None) -> str:
    return f"{node}{_SEPARATOR}{device or ''}"


def _held_row(node: str, held: Held) -> Row:
    memory = held.memory_mb + held.kv_mb
    cells: dict[str, Cell] = {
        "node": node,
        "state": state(held),
        "device": held.device or "",
        "need": size(memory) if memory else "",
        "why": _long(_doing(held)),
    }
    return Row(_key(node, held.device), cells)


def _doing(held: Held) -> str:
    if held.draining:
        return "it goes once its requests have ended"
    if held.status == "loaded":
        return idle(held)
    part, told = progress(held), held.progress
    phase = told.phase if told is not None else held.status
    return phase if part is None or told is None else f"{phase}, {part:.0%} of {size(told.total / 2**20)}"


def _row(site: Site) -> Row:
    cells: dict[str, Cell] = {
        "node": Text.assemble(site.node, *((f" + {each.get('node', '?')}", "") for each in site.others)),
        "state": named(site.verdict),
        "device": site.device or "",
        "need": size(site.need_mb) if site.need_mb else "",
        "free": f"{size(site.free_mb)} of {size(site.total_mb)}" if site.device else "",
        "why": _long(_why(site)),
    }
    return Row(_key(site.node, site.device), cells)


def _long(text: str) -> Text:
    """What may have to be cut."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _why(site: Site) -> str:
    if site.verdict == "fits" and site.evicts:
        return f"in place of {', '.join(site.evicts)}"
    return site.reason or ""


def _guessed(catalogue: Catalogue, name: str, held: Mapping[str, Held], there: Mapping[str, Held]) -> Iterator[Row]:
    """What the list of models tells by itself: where it would fit, and nothing about why not elsewhere."""
    model = catalogue.model(name)
    feasible = () if model is None else model.feasible_on
    for node in sorted(catalogue.nodes, key=lambda node: node not in feasible):
        if node not in there:
            failed = held.get(node)
            verdict = "failed" if failed is not None else "fits" if node in feasible else "never"
            why = (failed.error or "") if failed is not None else ""
            yield Row(
                _key(node, None), {"node": node, "state": named(verdict), "device": "", "need": "", "why": _long(why)}
            )
