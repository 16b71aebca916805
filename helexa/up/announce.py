"""Tells the operator how start-up is going and, once the fleet serves, how to use it."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import trio

from actors.router import Router
from config import Neuron, Topology
from helexa.cortex.routing.fleet import Node

LOOK_SECONDS = 0.2
Say = Callable[[str], None]


async def announce(topology: Topology, local: Sequence[Neuron], router: Router, say: Say, cortex: bool) -> None:  # noqa: FBT001 - called through a nursery, which passes no keywords
    """Say each step of the local neurons once; when all are ready, where the endpoint is and what to try."""
    said: set[str] = set()
    names = [neuron.name for neuron in local]
    if not cortex:
        say(f"running {', '.join(names)}; the gateway is on host '{topology.cortex.host}'")
        return
    while True:
        nodes = [node for name, node in router.fleet().nodes.items() if name in names]
        for line in (line for node in nodes for line in _progress(node)):
            if line not in said:
                said.add(line)
                say(line)
        if all(_settled(node) for node in nodes):
            break
        for name in names:
            router.suspect(name)
        await trio.sleep(LOOK_SECONDS)
    for line in banner(topology, router.fleet().nodes.values()):
        say(line)


def _settled(node: Node) -> bool:
    return node.sighting is not None and node.sighting.activation.state == "ready"


def _progress(node: Node) -> Iterator[str]:
    if node.sighting is None:
        yield f"{node.name}: starting"
        return
    yield f"{node.name}: up at {node.endpoint}, {', '.join(device.name for device in node.sighting.discovery.devices)}"
    activation = node.sighting.activation
    for model in activation.completed:
        yield f"{node.name}: loaded {model}"
    for failure in activation.failed:
        yield f"{node.name}: could not load {failure.model}: {failure.error}"
    if activation.in_progress is not None:
        yield f"{node.name}: loading {activation.in_progress}"


def banner(topology: Topology, nodes: Iterable[Node]) -> Iterator[str]:
    """The lines shown once everything of this host is up; ``nodes`` are all that the gateway can send to."""
    scheme = "http" if topology.cortex.tls is None else "https"
    base = f"{scheme}://{topology.cortex.listen.connectable}"
    loaded = list(dict.fromkeys(report.id for node in nodes for report in node.models if report.status == "loaded"))
    yield ""
    yield f"helexa serves {', '.join(loaded) or 'no model yet'} on {base}/v1"
    if loaded:
        yield f"  try    {_curl(base, loaded[0], auth=topology.auth_required)}"
    command = shlex.quote(sys.argv[0]) if "/" in sys.argv[0] else "helexa"
    yield f"  talk   {command} chat      look   {command} status      stop   Ctrl-C"
    if topology.bench is not None:
        yield f"  bench  {scheme}://{topology.bench.listen.connectable}/api/summary"


def _curl(base: str, model: str, *, auth: bool) -> str:
    key = "-H 'authorization: Bearer YOUR_KEY' " if auth else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello! Who are you?"}}]}}'
    return f"curl {base}/v1/chat/completions {key}-H 'content-type: application/json' -d '{body}'"
