"""Everything the console knows of a fleet, and how it changes by what is read. Pure; owned by the application."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import define, evolve, field

from tui import shapes
from tui.shapes import Actor, Event, Fleet, Held, Line, Model, Node, Requests

HISTORY: Final = 120
"""Readings that are kept of each device and model, for sparklines."""
STILL_SECONDS: Final = 5.0
"""After which a model that has counted no tokens is idle."""
MOST_LINES: Final = 5000
MOST_EVENTS: Final = 1000


@define
class Course:
    """How some figures of a device, or of a model on a node, went; ``None`` where unknown. Oldest first."""

    values: dict[str, deque[float | None]] = field(factory=dict)

    def add(self, **figures: float | None) -> None:
        """One more reading."""
        for name, value in figures.items():
            self.values.setdefault(name, deque(maxlen=HISTORY)).append(value)

    def of(self, name: str) -> list[float]:
        """The known values of a figure."""
        return [value for value in self.values.get(name, ()) if value is not None]

    def last(self, name: str) -> float | None:
        """The latest one."""
        known = self.values.get(name)
        return known[-1] if known else None


@define
class World:
    """What was read last, and courses of what was read before.

    Attributes:
        fleet: ``None``: it was not read yet.
        errors: why a feed cannot be read, by its name.
        raw: answers of feeds that only one screen understands, by the feed's name.
        devices: courses by node and device: ``memory`` (used fraction), ``utilization`` (0 to 1), ``temperature`` (°C),
            ``power`` (W).
        rates: courses by node and model: ``tokens`` (new tokens a second).
    """

    fleet: Fleet | None = None
    models: tuple[Model, ...] = ()
    actors: tuple[Actor, ...] = ()
    requests: Requests = field(factory=Requests)
    lines: deque[Line] = field(factory=lambda: deque(maxlen=MOST_LINES))
    events: deque[Event] = field(factory=lambda: deque(maxlen=MOST_EVENTS))
    errors: dict[str, str] = field(factory=dict)
    raw: dict[str, Any] = field(factory=dict)
    devices: dict[tuple[str, str], Course] = field(factory=dict)
    rates: dict[tuple[str, str], Course] = field(factory=dict)
    at: float = 0.0
    _steps: dict[tuple[str, str], tuple[float, int]] = field(factory=dict)

    def take(self, feed: str, data: Any, at: float, error: str | None = None) -> None:
        """What a feed answered, or why it did not; ``at`` as a Unix time."""
        if error is not None:
            self.errors[feed] = error
            return
        self.errors.pop(feed, None)
        match feed:
            case "fleet":
                self._take_fleet(shapes.read(Fleet, data), at)
            case "models":
                self.models = shapes.read_list(Model, _within(data, "data"))
            case "actors":
                self.actors = shapes.read_list(Actor, _within(data, "actors"))
            case "requests":
                self.requests = shapes.read(Requests, data)
            case "logs":
                self._take_lines(data)
            case _:
                self.raw[feed] = data

    def happened(self, events: Iterable[Event]) -> None:
        """Remember events."""
        self.events.extend(events)

    def _take_fleet(self, fleet: Fleet, at: float) -> None:
        self.fleet, self.at = fleet, at
        for node in fleet.nodes:
            self._follow_devices(node)
            for model in node.models:
                self._follow_model(node.name, model, at)
        self._forget_others(fleet)

    def _follow_devices(self, node: Node) -> None:
        for device in node.devices if node.up else ():
            course = self.devices.setdefault((node.name, device.name), Course())
            total = device.memory_total_mb
            course.add(
                memory=device.memory_used_mb / total if total else None,
                utilization=None if device.utilization is None else device.utilization / 100,
                temperature=device.temperature,
                power=device.power,
            )

    def _follow_model(self, node: str, model: Held, at: float) -> None:
        """Its speed, from what its engine has counted since it counted last; one that began anew counts from 0 again.

        The gateway looks at a node less often than it is asked here, so a count that stands still for a moment says
        nothing: taken for idleness, every other reading would be 0 and those between twice too high.
        """
        if model.steps is None:
            return
        key, now = (node, model.id), model.steps.new_tokens
        then, before = self._steps.setdefault(key, (at, now))
        if at <= then or (now == before and at - then < STILL_SECONDS):
            return
        self._steps[key] = (at, now)
        self.rates.setdefault(key, Course()).add(tokens=max(0, now - before) / (at - then))

    def _forget_others(self, fleet: Fleet) -> None:
        """What is gone, so that memory does not grow with names that come and go."""
        devices = {(node.name, device.name) for node in fleet.nodes for device in node.devices}
        models = {(node.name, model.id) for node in fleet.nodes for model in node.models}
        for known, there in ((self.devices, devices), (self.rates, models), (self._steps, models)):
            for key in [key for key in known if key not in there]:
                del known[key]

    def _take_lines(self, data: Any) -> None:
        node = str(_within(data, "node") or "")
        for line in shapes.read_list(Line, _within(data, "lines")):
            self.lines.append(evolve(line, node=node))


def _within(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else None
