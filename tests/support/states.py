"""What the tests of the fleet's owner share: two nodes, and what is told after each said something."""

from typing import Any

from fleets import Clock, eviction, loaded, sighting, state_of, topology_of

from helexa.cortex.routing.fleet import Sighting
from helexa.cortex.routing.policy import ColdLoad, Route, Wanted
from helexa.cortex.routing.state import Happening, NodeUp, State

AT = ("a", "m")
HERE, THERE = Route("a", "http://a:1", "m"), Route("b", "http://b:1", "m")
PLAN = ColdLoad("m", "helexa", "a", "cpu")
WANTED = Wanted("m")
LOADED = sighting(loaded())
EMPTY = sighting()


def two(clock: Clock, a: Sighting = EMPTY, b: Sighting = EMPTY, **settings: Any) -> State:
    return state_of(topology_of("a", "b", cortex=eviction(), **settings), {"a": a, "b": b}, clock)


def see(state: State, said: Sighting, asked_at: float | None = None, node: str = "a") -> list[tuple[str, Any]]:
    """What is told after a node said this, asked now unless told otherwise; the model, or the node where none is."""
    asked = state.fleet.clock() if asked_at is None else asked_at
    return told(state.see(NodeUp(node, said, asked)))


def told(happened: list[Happening]) -> list[tuple[str, Any]]:
    return [(each.kind, each.data.get("model", each.data["node"])) for each in happened]


def status(state: State, node: str = "a", name: str = "m") -> str | None:
    return state.fleet.status(state.fleet.nodes[node], name)
