"""What a node's answers say: which models are where, what has changed, what has failed. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import evolve

from helexa.cortex.routing.fleet import Holder, Node, Sighting, ranks_by_memory
from helexa.wire.fleet import DeviceHealth, ModelReport
from helexa.wire.progress import Progress

Told = Mapping[str, Holder | None]


def told(node: Node) -> Told:
    """The models that a node told of, those that its start-up is still to load among them.

    For each that requests can be sent to now, its holder.
    """
    found: dict[str, Holder | None] = dict.fromkeys(node.coming)
    for report in node.models:
        serves = node.up and report.status == "loaded"
        found[report.id] = Holder(node.name, node.endpoint, report.capacity) if serves else None
    return found


def statuses(node: Node) -> dict[str, str]:
    """The status of every model that a node told of, of those too that its start-up is still to load."""
    coming = dict.fromkeys(node.coming, "loading" if node.up else "recovering")
    return {**coming, **{report.id: report.status for report in node.models}}


def changes(before: Node, after: Node) -> Iterator[tuple[str, str | None, str]]:
    """Models whose status is another one: the model, its status before, ``None`` if there was none, and now."""
    was, now = statuses(before), statuses(after)
    for model in sorted(was.keys() | now.keys()):
        old, new = was.get(model), now.get(model, "unloaded")
        if (old or "unloaded") != new:
            yield model, old, new


def failures(before: Node, after: Node) -> dict[str, str]:
    """What a node tells for the first time that it could not load, and why.

    A start-up's failures stay in its answers for ever, whatever has become of the model since.
    """
    if after.sighting is None or not after.up:
        return {}
    old = set() if before.sighting is None or has_restarted(before, after) else set(_failed(before.sighting))
    serving = {report.id for report in after.sighting.models if report.status != "failed"}
    return {
        model: error for model, error in _failed(after.sighting) if model not in serving and (model, error) not in old
    }


def is_fetched(report: ModelReport) -> bool:
    """Whether a model is still on its way to its node, and so has nothing of any device yet."""
    return report.progress is not None and report.progress.phase != "loading"


def progress(before: Node, after: Node) -> Iterator[tuple[str, Progress]]:
    """Models that are on another hundredth of their way to being served than they were, and how far they are.

    No finer: the log of events is short, and must not be full of one download.
    """
    was = {report.id: _step(report.progress) for report in before.models}
    for report in after.models if after.up else ():
        if report.progress is not None and report.status == "loading" and _step(report.progress) != was.get(report.id):
            yield report.id, report.progress


def _step(told: Progress | None) -> tuple[str, int] | None:
    return None if told is None else (told.phase, 100 * told.done // told.total if told.total else 0)


def _failed(sighting: Sighting) -> Iterator[tuple[str, str]]:
    for failure in sighting.activation.failed:
        yield failure.model, failure.error
    for report in sighting.models:
        if report.status == "failed":
            yield report.id, report.error or "it failed"


def has_restarted(before: Node, after: Node) -> bool:
    """Whether it is another run of the neuron that has answered."""
    if before.sighting is None or after.sighting is None:
        return False
    return before.sighting.version.started_at != after.sighting.version.started_at


def unloaded(before: Node, after: Node) -> Iterator[ModelReport]:
    """What was loaded on a device and is not there any more, by the neuron's own words."""
    if before.sighting is None or after.sighting is None or before.sighting is after.sighting:
        return
    left = {report.id for report in after.sighting.models if report.status != "unloaded"}
    for report in before.sighting.models:
        if report.status == "loaded" and report.id not in left:
            yield report


def corrected(said: Sighting, known: Sighting, since: set[str]) -> Sighting:
    """An answer given without knowledge of the latest loads and unloads, corrected by what is known of them.

    Args:
        said: the answer.
        known: what was believed before it.
        since: the models that have been loaded or unloaded since it was asked for.
    """
    models = [report for report in said.models if report.id not in since]
    models += [report for report in known.models if report.id in since]
    return evolve(said, models=tuple(models), devices=known.devices)


def patched(
    known: Sighting, model: str, report: ModelReport | None, used_mb: Mapping[str, int] | None = None
) -> Sighting:
    """What is known of a node, once it has loaded a model, or unloaded it.

    Its devices are told to have that memory in use, or no more, until they are measured anew: the next model would be
    promised what this one has taken.

    Args:
        known: until now.
        model: its id.
        report: what the node said of it; ``None`` if it was unloaded.
        used_mb: MiB of each memory it has a part of that were in use without it; ``None`` if it was not loaded.
    """
    devices, gone = known.devices, next((each for each in known.models if each.id == model), None)
    if report is None and gone is not None:
        devices = _using(devices, gone, lambda told, held: max(0, told.memory_used_mb - held))
    if report is not None and used_mb is not None:  # part of it may have been measured while it was being loaded
        before = used_mb
        devices = _using(devices, report, lambda told, held: max(told.memory_used_mb, before.get(told.name, 0) + held))
    models = [each for each in known.models if each.id != model]
    models += [report] if report is not None else []
    return evolve(known, models=tuple(models), devices=devices)


def _using(
    devices: Iterable[DeviceHealth], report: ModelReport, change: Callable[[DeviceHealth, int], int]
) -> tuple[DeviceHealth, ...]:
    """The devices with another memory in use where a model has a part of it; ``change`` is told what that holds."""
    ranks, held = ranks_by_memory(report.device), held_mb(report)
    return tuple(
        evolve(each, memory_used_mb=change(each, held * ranks[each.name])) if each.name in ranks else each
        for each in devices
    )


def used_mb(node: Node | None, device: str, without: Iterable[str]) -> dict[str, int]:
    """MiB in use of each memory that a device or a group of them has, once some of its models have gone."""
    if node is None or node.sighting is None:
        return {}
    wanted, going = ranks_by_memory(device), set(without)
    used = {each.name: each.memory_used_mb for each in node.sighting.devices if each.name in wanted}
    for report in node.models:
        for memory, ranks in ranks_by_memory(report.device).items() if report.id in going else ():
            used[memory] = used.get(memory, 0) - ranks * held_mb(report)
    return {memory: left for memory, left in used.items() if left > 0}


def held_mb(report: ModelReport, *, limited: bool = False) -> int:
    """MiB that a model has of its device, of each of several.

    On a host, memory of the KV cache is committed as it is used.

    Args:
        report: the model.
        limited: whether its neuron may use so much of the device and no more: then a host's KV caches count in full.
    """
    return report.memory_mb + (report.kv_mb if limited or not _is_on_host(report) else 0)


def _is_on_host(report: ModelReport) -> bool:
    return set(ranks_by_memory(report.device)) == {"cpu"}


def coming(after: Node) -> tuple[str, dict[str, str | None]]:
    """What is told of a node that has come or gone: which of the two, and of whom."""
    return ("node.up" if after.up else "node.down"), {"node": after.name, "error": after.error}
