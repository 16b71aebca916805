"""How nodes, devices and models look as lines: figures of the same kind stand below each other. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen
from rich.text import Text

from helexa.wire.fleet import DeviceHealth
from helexa.wire.progress import Progress
from tui.glyphs import sign
from tui.shapes import Held, Node
from tui.views import fleet
from tui.views.figures import (
    fit,
    kv_used,
    memory,
    memory_used,
    percent,
    short_kind,
    size,
    span,
    throughput,
    tokens,
    transfer,
)
from tui.views.fleet import Thing
from tui.widgets.bars import bar, grade
from tui.widgets.folding import Entry, Group
from tui.widgets.sparkline import latest, sparkline
from tui.world import Course, World

WARM, HOT = 80.0, 90.0
"""°C from which a device is shown as warm, and as hot."""
_ROOMY: Final = 128
_NARROW: Final = 72
_BUSY, _FULL = 0.85, 0.97
_PHASES: Final = {"resolving": "asking", "downloading": "fetching", "loading": "loading"}
_NOTHING: Final = Course()


@frozen
class Columns:
    """Widths of the columns, 0 for those that there is no room for.

    Attributes:
        name: of node, device or model.
        bar: memory in use, KV cache in use, how far a load is; ``label`` says it in figures.
        spark: utilization, tokens a second; ``value`` says the latest.
        tail: temperature and power, or sequences; temperature alone where there is ``power``.
        power: bar of the power drawn, or of the sequences that run; ``drawn`` says it in figures.
        notes: whatever else there is to say.
    """

    name: int
    bar: int
    label: int
    spark: int
    value: int
    tail: int
    power: int = 0
    drawn: int = 0
    notes: int = 0

    @property
    def unit(self) -> str:
        """What follows the G or M of an amount of memory."""
        return "iB" if self.power else ""

    @classmethod
    def of(cls, width: int) -> "Columns":
        """What so many characters have room for."""
        if width < _NARROW:
            return cls(max(8, width - 33), 0, 11, 0, 10, 9)
        if width < _ROOMY:
            more = max(0, width - 79)
            bar, spark = 10 + more // 6, 8 + more // 2
            return cls(max(8, width - 35 - bar - spark), bar, 11, spark, 10, 9)
        name = min(44, max(26, width // 5))
        rest = width - name - 102
        spark = 20 + max(0, rest) // 4
        notes = max(0, width - name - 102 - spark + 20)
        return cls(name, 14, 14, spark, 10, 17, 8, 11, notes)


class FleetPainter:
    """Makes lines of the fleet.

    Args:
        world: whose courses are drawn.
        unicode: whether there is more than ASCII.
    """

    def __init__(self, world: World, *, unicode: bool) -> None:
        self._world, self._unicode = world, unicode

    def title(self, width: int) -> Text:
        """What the columns are."""
        columns = Columns.of(width)
        cells = [
            ("  NODE  DEVICE  MODEL", columns.name),
            ("MEMORY  KV CACHE" if columns.bar else "MEMORY KV", columns.bar + columns.label + bool(columns.bar)),
            ("USE  TOKENS" if columns.spark else "USE", columns.spark + columns.value + bool(columns.spark)),
            (" HEAT  JOBS" if columns.power else "HEAT JOBS", columns.tail),
            ("POWER  SLOTS", columns.power + columns.drawn + 1 if columns.power else 0),
            ("NOTES", columns.notes),
        ]
        return _join((Text(text), width) for text, width in cells)

    def head(self, group: Group, width: int, *, folded: bool) -> Text:
        """A node, with the sums of what is on it."""
        node: Node = group.head.content.node
        columns = Columns.of(width)
        name = Text.assemble(
            self._mark(group, folded=folded), sign(_state(node), unicode=self._unicode), (f" {node.name}", "bold")
        )
        if not node.up:
            return self._trouble(name, f"down: {node.error or 'not seen yet'}", columns, width)
        used, total = (
            sum(getattr(device, f"memory_{each}_mb") for device in node.devices) for each in ("used", "total")
        )
        course = fleet.tokens(self._world, [node], columns.spark or 1)
        rate = course[-1] if course else None
        return self._line(
            name,
            self._bar(used / total if total else None, columns.bar, "blue"),
            Text(memory(used, total, columns.unit) if total else ""),
            self._spark(course, columns.spark, "cyan"),
            Text(throughput(rate) if rate else "idle", "" if rate else "dim"),
            _jobs(*fleet.work(node), roomy=bool(columns.power)),
            *self._power(node.devices, columns),
            Text(_node_notes(node), "dim"),
            columns=columns,
        )

    def entry(self, entry: Entry, width: int) -> Text:
        """A device or a model."""
        thing: Thing = entry.content
        if thing.device is not None:
            return self._device(thing.node, thing.device, width)
        return Text() if thing.model is None else self._model(thing.node, thing.model, width)

    def words(self, entry: Entry) -> str:
        """What a filter looks at."""
        return fleet.words(entry)

    def _device(self, node: Node, device: DeviceHealth, width: int) -> Text:
        columns = Columns.of(width)
        mark = "▪" if self._unicode else "-"
        kind = short_kind(fleet.kind(node, device.name))
        name = Text.assemble("    ", (mark, "red" if device.error else "dim"), f" {device.name} ", (kind, "dim"))
        if device.error:
            return self._trouble(name, device.error, columns, width)
        course = self._world.devices.get((node.name, device.name), _NOTHING)
        use = device.utilization
        return self._line(
            name,
            self._bar(memory_used(device), columns.bar, "blue"),
            Text(memory(device.memory_used_mb, device.memory_total_mb, columns.unit)),
            self._spark(course.values.get("utilization"), columns.spark, "green", 1.0),
            Text("" if use is None else f"{use:.0f} %"),
            self._heat(device, course, columns),
            *self._power((device,), columns),
            _device_notes(device),
            columns=columns,
        )

    def _model(self, node: Node, model: Held, width: int) -> Text:
        columns = Columns.of(width)
        status = "draining" if model.draining else model.status
        name = Text.assemble("    ", sign(status, unicode=self._unicode), f" {model.id}")
        if model.pinned and not columns.notes and name.cell_len + 2 <= columns.name:
            name.append_text(Text.assemble(" ", sign("pinned", unicode=self._unicode)))
        if model.status == "failed":
            return self._trouble(name, f"failed: {model.error or 'nobody knows why'}", columns, width)
        if model.status in ("loading", "recovering"):
            return self._coming(name, model, columns)
        course = self._world.rates.get((node.name, model.id), _NOTHING)
        used = kv_used(model.kv)
        return self._line(
            name,
            self._bar(used, columns.bar, grade(used, _BUSY, _FULL, "magenta")),
            Text("" if used is None else f"{percent(used)} of KV"),
            self._spark(course.values.get("tokens"), columns.spark, "cyan"),
            _pace(model, course.last("tokens")),
            _jobs(model.running, model.waiting, roomy=bool(columns.power)),
            self._bar(model.running / model.capacity if model.capacity else None, columns.power, "cyan"),
            Text(f"{model.running}/{model.capacity}" if model.capacity else ""),
            Text(_model_notes(model), "dim"),
            columns=columns,
        )

    def _coming(self, name: Text, model: Held, columns: Columns) -> Text:
        """A model on its way."""
        progress = model.progress or Progress("loading")
        part = progress.done / progress.total if progress.total else None
        left = "" if progress.seconds_left is None else f", {span(progress.seconds_left)}"
        doing = model.status if model.status == "recovering" else _PHASES.get(progress.phase, model.status)
        return self._line(
            name,
            self._bar(0.0 if part is None else part, columns.bar, "yellow"),
            Text(f"{percent(part)}{left}"),
            Text(),
            Text(doing, "yellow"),
            Text(transfer(progress.rate), "dim"),
            Text(),
            Text(),
            Text(f"of {size(progress.total / 2**20)}" if progress.total else "", "dim"),
            columns=columns,
        )

    def _mark(self, group: Group, *, folded: bool) -> Text:
        closed, opened = ("▸", "▾") if self._unicode else ("+", "-")
        return Text(f" {' ' if not group.entries else closed if folded else opened} ", "dim")

    def _bar(self, part: float | None, width: int, style: str) -> Text:
        return bar(part, width, style, unicode=self._unicode)

    def _spark(self, course: Sequence[float | None] | None, width: int, style: str, top: float | None = None) -> Text:
        """A course of ``width`` readings. Without a top there is air above the largest: a steady figure is no wall."""
        values = latest(course, width)
        highest = 1.25 * max((each for each in values if each is not None), default=0.0) if top is None else top
        return sparkline(values, width, style, unicode=self._unicode, top=highest)

    def _heat(self, device: DeviceHealth, course: Course, columns: Columns) -> Text:
        """Temperature and power; the former's course where there is room for it."""
        degrees, style = device.temperature, grade(device.temperature, WARM, HOT, "")
        if not columns.power:
            said = "" if degrees is None else f"{degrees:.0f}°"
            drawn = "" if device.power is None else f"{device.power:.0f}W"
            return Text.assemble((f"{said:<4}", style), f"{drawn:>5}")
        said = "" if degrees is None else f"{degrees:.0f} °C"
        return Text.assemble(
            (f"{said:<7}", style), self._spark(course.values.get("temperature"), 9, style or "bright_black", 100.0)
        )

    def _power(self, devices: tuple[DeviceHealth, ...], columns: Columns) -> tuple[Text, Text]:
        """Bar and figures of what devices draw together; nothing where one of them does not tell."""
        drawn = [device.power for device in devices if device.power is not None]
        limits = [device.power_limit for device in devices if device.power_limit is not None]
        if not drawn or not columns.power:
            return Text(), Text()
        power, limit = sum(drawn), sum(limits) if len(limits) == len(devices) else 0.0
        said = f"{power:.0f}/{limit:.0f} W" if limit else f"{power:.0f} W"
        return self._bar(power / limit if limit else None, columns.power, "blue"), Text(said)

    def _line(self, *cells: Text, columns: Columns) -> Text:
        gap = " " if columns.power else ""
        shown = [*cells[:4], fit(cells[4], columns.value, right=True), Text.assemble(gap, cells[5]), *cells[6:]]
        widths = (
            columns.name,
            columns.bar,
            columns.label,
            columns.spark,
            columns.value,
            columns.tail,
            columns.power,
            columns.drawn,
            columns.notes,
        )
        return _join(zip(shown, widths, strict=True))

    def _trouble(self, name: Text, said: str, columns: Columns, width: int) -> Text:
        """A line that has nothing to tell but what is wrong."""
        rest = width - columns.name - 1
        return Text.assemble(fit(name, columns.name), " ", fit(" ".join(said.split()), rest, "red"))


def _join(cells: Iterable[tuple[Text, int]]) -> Text:
    shown = [fit(cell, width) for cell, width in cells if width > 0]
    return Text(" ").join(shown)


def _state(node: Node) -> str:
    return "up" if node.up else "down"


def _jobs(running: int, waiting: int, *, roomy: bool) -> Text:
    """Sequences that run, and those that wait."""
    if not running and not waiting:
        return Text()
    if roomy:
        more = (f" {waiting} waiting", "yellow") if waiting else ""
        return Text.assemble(f"{running} running" if not waiting else f"{running} run", more)
    return Text.assemble(str(running), (f"+{waiting}", "yellow") if waiting else "", " run")


def _pace(model: Held, rate: float | None) -> Text:
    """How fast a loaded model is, or what it does instead."""
    if model.draining:
        return Text("draining", "yellow")
    if rate:
        return Text(throughput(rate))
    if model.running or model.waiting:
        return Text("" if rate is None else throughput(rate), "dim")
    return Text("idle" if model.idle_seconds is None else f"idle {span(model.idle_seconds)}", "dim")


def _node_notes(node: Node) -> str:
    """What is under a node, for when it is folded away."""
    uptime = "" if node.uptime_seconds is None else f"up {span(node.uptime_seconds)}"
    kinds = Counter(short_kind(fleet.kind(node, device.name)) or device.name for device in node.devices)
    devices = ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items())
    loaded = sum(model.status == "loaded" for model in node.models)
    return "  ".join(filter(None, (uptime, devices, f"{loaded} loaded" if loaded else "")))


def _device_notes(device: DeviceHealth) -> Text:
    clock = "" if device.clock is None else f"{device.clock / 1000:.2f} GHz  "
    slow = ", ".join(each.replace("_", " ") for each in device.throttled)
    return Text.assemble(
        (clock, "dim"), (f"slowed: {slow}" if slow else "", "yellow" if fleet.is_hot(device) else "dim")
    )


def _model_notes(model: Held) -> str:
    context = f"{tokens(model.limit.context)} context" if model.limit is not None else ""
    weights = size(model.memory_mb) if model.memory_mb else ""
    return "  ".join(
        filter(None, ("pinned" if model.pinned else "", weights, context, f"on {model.device}" if model.device else ""))
    )
