"""All that is known of a node, a device or a model, as lines of text. Pure."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from rich.text import Text

from helexa.wire.fleet import DeviceHealth, DeviceInfo
from tui.glyphs import named
from tui.shapes import Event, Held, Node
from tui.views import fleet
from tui.views.figures import (
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
from tui.views.page import Page
from tui.world import Course, World

_EVENTS: Final = 12
_NAMES: Final = ("model", "node")
_SEEN_ELSEWHERE: Final = frozenset({"model.progress"})
_ALARMING: Final = {"failed": "red", "down": "red", "rejected": "yellow", "evicted": "yellow"}
_FEW_DEVICES: Final = 4


def details(world: World, thing: Thing, page: Page) -> Text:
    """Everything about one of the things of ``tui.views.fleet``, and what happened to it lately."""
    if thing.model is not None:
        lines = list(_model(world, thing.node, thing.model, page))
    elif thing.device is not None:
        lines = list(_device(world, thing.node, thing.device, page))
    else:
        lines = list(_node(world, thing.node, page))
    return Text("\n").join([*lines, *_events(world, thing, page)])


def _node(world: World, node: Node, page: Page) -> Iterator[Text]:
    yield Text.assemble((node.name, "bold"), "  ", named("up" if node.up else "down"))
    yield Text()
    if not node.up:
        yield page.fact("error", Text(node.error or "not seen yet", "red"))
    yield page.fact("endpoint", node.endpoint)
    if node.uptime_seconds is not None and node.up:
        yield page.fact("up for", span(node.uptime_seconds))
    yield from _hardware(node, page)
    yield from _build(node.version, page)
    course = fleet.tokens(world, [node], page.width)
    said = throughput(course[-1]) if course else ""
    yield from page.course("tokens a second", course, said, "cyan", None)
    for device in node.devices[:_FEW_DEVICES] if page.tall else ():
        readings = world.devices.get((node.name, device.name), Course()).values.get("utilization")
        yield from page.course(
            f"utilization of {device.name}", readings, percent((device.utilization or 0) / 100), "green", 1.0
        )


def _hardware(node: Node, page: Page) -> Iterator[Text]:
    found = node.discovery
    if found is None:
        return
    yield page.fact("host", f"{found.hostname}  {found.os}")
    if found.driver:
        yield page.fact("driver", f"{found.driver}{f', CUDA {found.cuda}' if found.cuda else ''}")
    if found.processor is not None:
        cores = f", {found.processor.cores} cores" if found.processor.cores else ""
        yield page.fact("processor", f"{short_kind(found.processor.name)}{cores}, {found.processor.threads} threads")
    if found.unavailable_reason:
        yield page.fact("GPUs", Text(found.unavailable_reason, "yellow"))


def _build(version: Mapping[str, Any], page: Page) -> Iterator[Text]:
    if version.get("version"):
        sha = str(version.get("git_sha") or "")[:10]
        yield page.fact("helexa", f"{version['version']} {sha}{', changed since' if version.get('dirty') else ''}")
        yield page.fact("torch", str(version.get("torch", "?")))


def _device(world: World, node: Node, device: DeviceHealth, page: Page) -> Iterator[Text]:
    yield Text.assemble((device.name, "bold"), f" of {node.name}")
    yield Text()
    info = _info(node, device.name)
    if info is not None:
        yield from _plate(info, page)
    if device.error:
        yield page.fact("error", Text(device.error, "red"))
    if device.clock is not None:
        memory_clock = "" if device.memory_clock is None else f", memory {device.memory_clock:.0f} MHz"
        yield page.fact("clock", f"{device.clock:.0f} MHz{memory_clock}")
    if device.throttled:
        slow = ", ".join(each.replace("_", " ") for each in device.throttled)
        yield page.fact("slowed by", Text(slow, "yellow" if fleet.is_hot(device) else ""))
    holds = [model.id for model in node.models if device.name in (model.device or "").split("+")]
    yield page.fact("holds", ", ".join(holds) or "no model")
    yield from _courses(world, node, device, page)


def _plate(info: DeviceInfo, page: Page) -> Iterator[Text]:
    """What does not change of a device."""
    yield page.fact("kind", info.kind)
    if info.compute_capability:
        yield page.fact("capability", info.compute_capability)
    if info.bandwidth is not None:
        yield page.fact("bandwidth", f"{info.bandwidth:,.0f} GB/s")
    if info.bus_id is not None:
        lanes = f", PCIe {info.pcie_generation} x{info.pcie_width}" if info.pcie_generation else ""
        yield page.fact("bus", f"{info.bus_id}{lanes}")


def _info(node: Node, device: str) -> DeviceInfo | None:
    known = () if node.discovery is None else node.discovery.devices
    return next((each for each in known if each.name == device), None)


def _courses(world: World, node: Node, device: DeviceHealth, page: Page) -> Iterator[Text]:
    course = world.devices.get((node.name, device.name))
    values = {} if course is None else course.values
    limit = "" if device.power_limit is None else f" of {device.power_limit:.0f}"
    part = percent(memory_used(device))
    told: tuple[tuple[str, str, float | None, Callable[[float], str], str, float | None], ...] = (
        ("utilization", "utilization", device.utilization, lambda each: f"{each:.0f} %", "green", 1.0),
        (
            "memory",
            "memory",
            device.memory_used_mb,
            lambda _: f"{part}, {memory(device.memory_used_mb, device.memory_total_mb)}",
            "blue",
            1.0,
        ),
        ("temperature", "temperature", device.temperature, lambda each: f"{each:.0f} °C", "yellow", 100.0),
        ("power", "power", device.power, lambda each: f"{each:.0f}{limit} W", "magenta", device.power_limit),
    )
    for label, key, now, say, style, top in told:
        if now is not None:
            yield from page.course(label, values.get(key), say(now), style, top)


def _model(world: World, node: Node, model: Held, page: Page) -> Iterator[Text]:
    yield Text.assemble((model.id, "bold"), "  ", named("draining" if model.draining else model.status))
    yield Text()
    if model.error:
        yield page.fact("error", Text(model.error, "red"))
    yield page.fact("on", f"{node.name}{f', {model.device}' if model.device else ''}")
    yield from _progress(model, page)
    if model.memory_mb:
        yield page.fact("weights", size(model.memory_mb))
    yield from _cache(model, page)
    yield from _limits(model, page)
    course = world.rates.get((node.name, model.id))
    if course is not None:
        rate = course.last("tokens")
        yield from page.course("tokens a second", course.values.get("tokens"), throughput(rate), "cyan", None)


def _progress(model: Held, page: Page) -> Iterator[Text]:
    come = model.progress
    if come is None:
        return
    yield page.fact("phase", come.phase)
    if come.total:
        part = come.done / come.total
        yield page.fact("come", page.share(part, "yellow", f"{percent(part)} of {size(come.total / 2**20)}"))
    if come.rate:
        left = "" if come.seconds_left is None else f", {span(come.seconds_left)} left"
        yield page.fact("speed", f"{transfer(come.rate)}{left}")


def _cache(model: Held, page: Page) -> Iterator[Text]:
    if model.kv_mb:
        yield page.fact("KV cache", size(model.kv_mb))
    kv, used = model.kv, kv_used(model.kv)
    if kv is None or used is None:
        return
    yield page.fact("in use", page.share(used, "magenta", percent(used)))
    kept = kv.blocks_cached / kv.blocks_total
    yield page.fact("for prompts", page.share(kept, "blue", f"{percent(kept)} kept"))
    if kv.prefix_queries:
        yield page.fact("found again", f"{percent(kv.prefix_hits / kv.prefix_queries)} of prompt tokens")
    if kv.preemptions:
        yield page.fact("preempted", Text(f"{kv.preemptions:,} sequences", "yellow"))


def _limits(model: Held, page: Page) -> Iterator[Text]:
    if model.capacity:
        part = model.running / model.capacity
        yield page.fact("sequences", page.share(part, "cyan", f"{model.running} of {model.capacity} run"))
    if model.waiting:
        yield page.fact("waiting", Text(str(model.waiting), "yellow"))
    yield page.fact("requests", f"{model.in_flight} in flight")
    if model.limit is not None:
        yield page.fact("context", f"{tokens(model.limit.context)} tokens, output {tokens(model.limit.output)}")
    if model.capabilities:
        yield page.fact("can", ", ".join(model.capabilities))
    if model.steps is not None and model.steps.count:
        mean = 1000 * model.steps.seconds / model.steps.count
        yield page.fact("steps", f"{model.steps.count:,}, {mean:.1f} ms each")
    yield page.fact("kept", "pinned" if model.pinned else "until its memory is needed or it is idle for long")
    if model.idle_seconds is not None and not model.in_flight:
        yield page.fact("idle for", span(model.idle_seconds))


def lately(world: World, lines: int, width: int) -> Text:
    """What happened in the fleet, the newest first; steps of loads are seen in the list."""
    told = (event for event in reversed(world.events) if event.event not in _SEEN_ELSEWHERE)
    found = [_event(event, world.at, width, where=True) for event in islice(told, lines - 1)]
    return Text("\n").join(
        [Text("LATELY", "dim"), *(found or [Text("nothing since this console began to look", "dim")])]
    )


def _events(world: World, thing: Thing, page: Page) -> Iterator[Text]:
    """What happened lately to something, the newest first."""
    about = (event for event in reversed(world.events) if _is_about(event, thing))
    for number, event in enumerate(islice(about, _EVENTS)):
        if number == 0:
            yield Text()
            yield Text("lately", "dim")
        yield _event(event, world.at, page.width)


def _is_about(event: Event, thing: Thing) -> bool:
    if event.event in _SEEN_ELSEWHERE or event.data.get("node") not in (None, thing.node.name):
        return False
    if thing.model is not None:
        return event.data.get("model") == thing.model.id
    return event.data.get("node") == thing.node.name


def _event(event: Event, now: float, width: int, *, where: bool = False) -> Text:
    """When, what, and to what it happened."""
    said = "  ".join(
        f"{key} {value}" for key, value in event.data.items() if key not in _NAMES and value not in (None, "")
    )
    names = [str(event.data[key]) for key in _NAMES if event.data.get(key) and (where or key == "model")]
    style = next((style for ending, style in _ALARMING.items() if event.event.endswith(ending)), "")
    line = Text.assemble(
        (f"{span(max(0.0, now - event.time)):>4} ago  ", "dim"), (f"{event.event:<16}", style), f" {' on '.join(names)}"
    )
    line.append(f"  {said}", "dim")
    line.truncate(width, overflow="ellipsis")
    return line
