"""What no single field can know: names that point at each other, and sockets that get in each other's way."""

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import chain, combinations
from typing import Final, TypeAlias

from config.problems import Finding, Path, show
from config.structure import suggestion
from config.topology import Listener, Neuron, Topology
from config.validators import SLUG_HINT, is_slug

Findings: TypeAlias = Iterator[Finding]

_INTERCONNECT_HINT: Final = 'the one address of this host that the others reach it by, such as "10.0.0.5:13132"'


def check(topology: Topology) -> Findings:
    """Yield everything wrong between the parts of a topology whose parts are right by themselves."""
    yield from _duplicates(topology)
    yield from _aliases(topology)
    yield from _preloads(topology)
    yield from _pins(topology)
    yield from _routes(topology)
    yield from _hosts(topology)
    yield from _endpoints(topology)
    yield from _listeners(topology)
    yield from _interconnects(topology)
    yield from _devices(topology)


def _duplicates(topology: Topology) -> Findings:
    keys = topology.entitlements.keys
    where = ("entitlements", "keys")
    yield from _repeated(("neurons",), "name", (neuron.name for neuron in topology.neurons))
    yield from _repeated(("models",), "id", (model.id for model in topology.models))
    yield from _repeated(("providers",), "name", (provider.name for provider in topology.providers))
    yield from _repeated(where, "name", (key.name for key in keys))
    yield from _repeated(where, "key_env", (key.key_env for key in keys))
    yield from _repeated(where, "key_hash", (key.key_hash for key in keys))
    yield from _repeated(("entitlements", "accounts"), "name", (each.name for each in topology.entitlements.accounts))
    yield from _bench_names(topology)


def _repeated(table: Path, key: str, values: Iterable[str | None]) -> Findings:
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        first = seen.setdefault(value, index)
        if first != index:
            message = f"{show(value)} is already the {key} of entry {first}"
            yield Finding((*table, index, key), message, f"give each entry its own {key}")


def _bench_names(topology: Topology) -> Findings:
    """What is measured under one name is taken for one thing, whose history it is."""
    targets, where = () if topology.bench is None else topology.bench.targets, ("bench", "targets")
    yield from _repeated(where, "name", (target.name for target in targets))
    for index, target in enumerate(targets):
        if topology.neuron(target.name) is not None:
            message = f"{show(target.name)} is already the name of a neuron, which is measured too"
            yield Finding((*where, index, "name"), message, "give it another name", (("neurons", target.name),))


def _aliases(topology: Topology) -> Findings:
    for alias, target in topology.aliases.items():
        path = ("aliases", alias)
        if not is_slug(alias):
            yield Finding(path, "is not a name for an alias", SLUG_HINT)
        if topology.model(alias) is not None:
            yield Finding(path, "is already the id of a model", "choose another name for the alias")
        if topology.model(target) is None:
            yield _no_model(topology, path, target)


def _no_model(topology: Topology, path: Path, name: str) -> Finding:
    if name in topology.aliases:
        hint = f"it is an alias; name its model, {show(topology.aliases[name])}"
    else:
        hint = _choose("model", name, [model.id for model in topology.models])
    return Finding(path, f"there is no model {show(name)} in the catalogue", hint, (("models", name),))


def _choose(kind: str, name: str, known: list[str]) -> str:
    return suggestion(name, known) if known else f"declare it as one of the [[{kind}s]]"


def _preloads(topology: Topology) -> Findings:
    for at, neuron in enumerate(topology.neurons):
        for index, name in enumerate(neuron.preload):
            path = ("neurons", at, "preload", index)
            model = topology.model(name)
            if model is None:
                yield _no_model(topology, path, name)
            elif model.pinned_on and neuron.name not in model.pinned_on:
                pins = ", ".join(show(pin) for pin in model.pinned_on)
                hint = f"preload it there, or add {show(neuron.name)} to its pinned_on"
                yield Finding(path, f"{show(name)} is pinned on {pins} only", hint)


def _pins(topology: Topology) -> Findings:
    known = [neuron.name for neuron in topology.neurons]
    for at, model in enumerate(topology.models):
        for index, name in enumerate(model.pinned_on):
            if name not in known:
                path = ("models", at, "pinned_on", index)
                yield Finding(
                    path, f"there is no neuron {show(name)}", _choose("neuron", name, known), (("neurons", name),)
                )


def _routes(topology: Topology) -> Findings:
    known = [provider.name for provider in topology.providers]
    for at, route in enumerate(topology.routes):
        for index, name in enumerate(route.providers):
            if name not in known:
                path = ("routes", at, "providers", index)
                hint = _choose("provider", name, known)
                yield Finding(path, f"there is no provider {show(name)}", hint, (("providers", name),))


def _hosts(topology: Topology) -> Findings:
    if not topology.hosts:
        return
    hint = "as soon as one entry names a host, cortex and every neuron have to"
    if topology.cortex.host is None:
        yield Finding(
            ("cortex", "host"), f"is missing while others name hosts, such as {show(topology.hosts[0])}", hint
        )
    for index, neuron in enumerate(topology.neurons):
        if neuron.host is None:
            message = f"is missing while others name hosts, such as {show(topology.hosts[0])}"
            yield Finding(("neurons", index, "host"), message, hint)


def _endpoints(topology: Topology) -> Findings:
    for index, neuron in enumerate(topology.neurons):
        if _is_remote(topology, neuron) and _is_local_endpoint(neuron):
            message = f"{show(neuron.endpoint)} does not reach {show(neuron.host)} from other hosts"
            example = f"{neuron.endpoint.partition('://')[0]}://{neuron.host}:{neuron.listen.port}"
            hint = f"listen on an address of the network and name the URL others use, such as {show(example)}"
            yield Finding(("neurons", index, "endpoint"), message, hint, (("neurons", index, "listen"),))


def _is_remote(topology: Topology, neuron: Neuron) -> bool:
    return None not in {neuron.host, topology.cortex.host} and neuron.host != topology.cortex.host


def _is_local_endpoint(neuron: Neuron) -> bool:
    """Whether the endpoint is the default of an address that only its own host can connect to."""
    local = neuron.listen.connectable
    return local.is_loopback and neuron.endpoint.partition("://")[2] == str(local)


def _listeners(topology: Topology) -> Findings:
    for first, second in combinations(chain(topology.listeners(), _meetings(topology)), 2):
        if first.host == second.host and first.address.clashes_with(second.address):
            yield _clash(first, second)


def _clash(first: Listener, second: Listener) -> Finding:
    owner = ".".join(str(part) for part in first.path)
    message = f"{show(str(second.address))} is taken by {owner} on the same host"
    return Finding(second.path, message, "give each its own port", (first.path, second.path))


def _meetings(topology: Topology) -> Iterator[Listener]:
    """Where ranks of other hosts meet those of each neuron; no client ever connects there."""
    for index, neuron in enumerate(topology.neurons):
        if neuron.interconnect is not None:
            yield Listener(("neurons", index, "interconnect"), neuron.host, neuron.interconnect)


def _interconnects(topology: Topology) -> Findings:
    usable: list[Listener] = []
    for each in _meetings(topology):
        if (problem := _no_interconnect(each)) is not None:
            yield Finding(each.path, f"{show(str(each.address))} {problem}", _INTERCONNECT_HINT)
        else:
            usable.append(each)
    yield from _apart(usable)


def _no_interconnect(listener: Listener) -> str | None:
    """Why ranks cannot meet there, half a sentence. Not a name: what that resolves to may be any interface."""
    try:
        ipaddress.ip_address(listener.address.host)
    except ValueError:
        return "is not an IP address"
    return "stands for every interface of the host" if listener.address.is_wildcard else None


def _apart(usable: list[Listener]) -> Findings:
    """Addresses that are fine by themselves, and that other ranks cannot reach or come from."""
    for each in usable:
        if (":" in each.address.host) != (":" in usable[0].address.host):
            message = f"{show(str(each.address))} cannot reach {show(str(usable[0].address))}"
            yield Finding(each.path, message, "give all of them IPv4 addresses, or all of them IPv6", (usable[0].path,))
        if each.address.is_loopback and any(other.host != each.host for other in usable):
            message = f"{show(str(each.address))} does not reach {show(each.host)} from other hosts"
            yield Finding(each.path, message, _INTERCONNECT_HINT)


def _devices(topology: Topology) -> Findings:
    for (_, first), (index, second) in combinations(enumerate(topology.neurons), 2):
        if first.host != second.host:
            continue
        for at, device in enumerate(second.devices or ()):
            if device.partition(":")[0] != "cpu" and device in (first.devices or ()):
                message = f"{show(device)} already belongs to {show(first.name)} on the same host"
                yield Finding(("neurons", index, "devices", at), message, "give each device to one neuron")
