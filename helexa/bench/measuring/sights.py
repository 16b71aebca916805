"""What targets say of themselves, read. Pure.

Sources: helexa's own shapes (`helexa.wire.fleet`); OpenAI API reference, "List models"; vLLM, "OpenAI-compatible
server" (``max_model_len``, ``/version``); llama.cpp, "tools/server" (``meta.n_ctx_train``, ``/props``).
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import orjson

from helexa.bench.client.exchanges import Exchange, TargetError, refusal
from helexa.bench.measuring import builds
from helexa.bench.measuring.facts import Facts, ModelFacts
from helexa.bench.records import Build, Target
from helexa.wire import fleet
from helexa.wire.fleet import DeviceHealth, Discovery, Health, ModelList, ModelReport, Version

_T = TypeVar("_T")
_LENGTHS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""What servers call a model's context in their lists: vLLM and SGLang; OpenRouter and others; Groq; Mistral."""
_META_LENGTHS = ("n_ctx", "n_ctx_train")


def neuron(  # noqa: PLR0913, PLR0917 - one for each question it is asked
    target: Target,
    version: Exchange,
    discovery: Exchange,
    models: Exchange,
    health: Exchange,
    precisions: Mapping[str, str],
) -> Facts:
    """A neuron, from what it answers.

    Raises:
        TargetError: ``protocol``; it does not answer as a neuron does.
    """
    what = _shape(discovery, Discovery)
    found = [_report(each, what, precisions.get(each.id)) for each in _shape(models, ModelList).models]
    powered = any(device.power is not None for device in _shape(health, Health).devices)
    return Facts(target, builds.of_neuron(_shape(version, Version), what), tuple(found), powered)


def reports(models: Exchange) -> tuple[ModelReport, ...]:
    """A neuron's models.

    Raises:
        TargetError: ``refused``, ``protocol``.
    """
    if not models.ok:
        raise refusal(models)
    return _shape(models, ModelList).models


def neuron_power(health: Exchange, devices: tuple[str, ...]) -> float | None:
    """What some of a neuron's devices draw together, in W.

    Raises:
        TargetError: ``protocol``.
    """
    return _sum(_shape(health, Health).devices, devices)


def _sum(health: Iterable[DeviceHealth], names: tuple[str, ...]) -> float | None:
    told = [device.power for device in health if device.name in names]
    known = [power for power in told if power is not None]
    return sum(known) if known and len(known) == len(told) else None


def _report(report: ModelReport, discovery: Discovery | None, precision: str | None) -> ModelFacts:
    return ModelFacts(
        report.id,
        report.status,
        report.limit.context if report.limit else None,
        # A model that is not loaded has none yet.
        report.capabilities if report.status == "loaded" else None,
        report.running,
        report.waiting,
        tuple(report.device.split("+")) if report.device else (),
        details=builds.of_model(report.device, discovery, precision),
    )


def cortex(target: Target, listed: Exchange, snapshot: Exchange | None) -> Facts:
    """A gateway, from its list of models and, where the key is for that, its fleet.

    Raises:
        TargetError: ``protocol``; it does not answer as a gateway does.
    """
    nodes = [] if snapshot is None else _nodes(snapshot)
    found = {node: _node_build(entry) for node, entry in nodes}
    told = {node: build for node, build in found.items() if build is not None}
    aliases = {} if snapshot is None else _mapping(snapshot).get("aliases", {})
    names = aliases if isinstance(aliases, dict) else {}
    models = tuple(
        _through_cortex(entry, names.get(entry["id"], entry["id"]), nodes, told) for entry in _listed(listed)
    )
    powered = any(device.power is not None for _, entry in nodes for device in _devices(entry))
    return Facts(target, builds.of_nodes(told), models, powered)


def cortex_power(snapshot: Exchange, devices: tuple[str, ...]) -> float | None:
    """What devices of several nodes (``node/cuda:0``) draw together, in W.

    Raises:
        TargetError: ``protocol``.
    """
    wanted = set(devices)
    told = [
        device.power
        for node, entry in _nodes(snapshot)
        for device in _devices(entry)
        if f"{node}/{device.name}" in wanted
    ]
    known = [power for power in told if power is not None]
    return sum(known) if known and len(known) == len(told) else None


def _nodes(snapshot: Exchange) -> list[tuple[str, Mapping[str, Any]]]:
    found = _mapping(snapshot).get("nodes")
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return [(str(each.get("name")), each) for each in entries]


def _node_build(entry: Mapping[str, Any]) -> Build | None:
    """A node's build; ``None``: it has never been seen."""
    if not entry.get("version") or not entry.get("discovery"):
        return None
    return builds.of_neuron(_part(entry["version"], Version), _part(entry["discovery"], Discovery))


def _devices(entry: Mapping[str, Any]) -> tuple[DeviceHealth, ...]:
    found = entry.get("devices")
    return tuple(_part(each, DeviceHealth) for each in found) if isinstance(found, list) else ()


def _through_cortex(
    entry: Mapping[str, Any],
    model: str,
    nodes: Iterable[tuple[str, Mapping[str, Any]]],
    told: Mapping[str, Build],
) -> ModelFacts:
    """A model as a gateway knows it: by those of its nodes that have it loaded, for no others answer."""
    on = [
        (node, report)
        for node, there in nodes
        for report in _reports(there)
        if report.id == model and report.status == "loaded"
    ]
    capabilities = entry.get("capabilities")
    return ModelFacts(
        entry["id"],
        str(entry.get("status", "loaded")),
        _length(entry),
        tuple(map(str, capabilities)) if on and isinstance(capabilities, list) else None,
        sum(report.running for _, report in on),
        sum(report.waiting for _, report in on),
        tuple(f"{node}/{device}" for node, report in on for device in (report.device or "").split("+") if device),
        builds.of_nodes({node: told[node] for node, _ in on if node in told}) if on else None,
    )


def _reports(entry: Mapping[str, Any]) -> tuple[ModelReport, ...]:
    found = entry.get("models")
    return tuple(_part(each, ModelReport) for each in found) if isinstance(found, list) else ()


def server(target: Target, listed: Exchange, version: Mapping[str, Any], props: Mapping[str, Any]) -> Facts:
    """Any server, from its list of models and what else it may tell.

    Raises:
        TargetError: ``protocol``; it does not list models as OpenAI does.
    """
    build = builds.of_server(version.get("version"), props.get("build_info"), listed.headers.get("server"))
    settings = props.get("default_generation_settings")
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    models = [ModelFacts(entry["id"], context=_length(entry) or _tokens(context)) for entry in _listed(listed)]
    return Facts(target, build, tuple(models))


def _listed(exchange: Exchange) -> list[Mapping[str, Any]]:
    found = _mapping(exchange).get("data")
    if not isinstance(found, list):
        raise TargetError("protocol", "It does not list models as OpenAI's API does.")
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _length(entry: Mapping[str, Any]) -> int | None:
    limit, meta = entry.get("limit"), entry.get("meta")
    told = [limit.get("context") if isinstance(limit, dict) else None]
    told += [entry.get(name) for name in _LENGTHS]
    told += [meta.get(name) for name in _META_LENGTHS] if isinstance(meta, dict) else []
    return next((found for found in map(_tokens, told) if found is not None), None)


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _mapping(exchange: Exchange) -> Mapping[str, Any]:
    found = exchange.json()
    if not isinstance(found, dict):
        raise TargetError("protocol", "It answers with JSON that is no object.")
    return found


def _shape(exchange: Exchange, kind: type[_T]) -> _T:
    try:
        return fleet.from_json(exchange.body, kind)
    except ValueError as error:
        raise TargetError("protocol", f"It does not answer as helexa does: {error}") from None


def _part(value: object, kind: type[_T]) -> _T:
    try:
        return fleet.from_json(orjson.dumps(value), kind)
    except ValueError as error:
        raise TargetError("protocol", f"It does not answer as helexa does: {error}") from None
