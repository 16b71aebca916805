"""Fleet states for tests."""

from collections.abc import Mapping

from actors.router import NodeUp, Router
from helexa.cortex.fleet import Fleet, Node, Sighting
from helexa.wire.fleet import Activation, Discovery, ModelReport, Version

DISCOVERY = Discovery("box", "Linux 6", None, ())
VERSION = Version("0.1.0", None, None, None, "3.11", "2.13", "5.0", None, 0.0)


def sighting(*reports: ModelReport, activation: Activation | None = None) -> Sighting:
    return Sighting(DISCOVERY, VERSION, 1.0, models=reports, activation=activation or Activation("ready"))


def node(
    name: str,
    *reports: ModelReport,
    up: bool = True,
    activation: Activation | None = None,
    in_flight: Mapping[str, int] | None = None,
) -> Node:
    """A node that was seen."""
    seen = sighting(*reports, activation=activation)
    error = None if up else "no answer"
    return Node(name, f"http://{name}:1", up=up, sighting=seen, error=error, in_flight=in_flight or {})


def fleet_of(*nodes: Node, catalogue: tuple[str, ...] = ("m",), aliases: Mapping[str, str] | None = None) -> Fleet:
    return Fleet({each.name: each for each in nodes}, catalogue, aliases or {})


def router_of(endpoints: Mapping[str, str], model: str = "m", aliases: Mapping[str, str] | None = None) -> Router:
    """A router whose every node is up and has `model` loaded."""
    router = Router(endpoints, (model,), aliases)
    for name in endpoints:
        router.see(NodeUp(name, sighting(ModelReport(model, "loaded"))))
    return router


def in_flight(router: Router) -> int:
    """Requests open at any node."""
    return sum(sum(each.in_flight.values()) for each in router.fleet().nodes.values())
