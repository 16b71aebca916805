"""What a fleet tells, as the console reads it.

Leniently: a fleet may be older or newer than this console. What is missing has its default, what is unknown is passed
over, and what has another type than expected counts as missing.
"""

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import cattrs
from attrs import NOTHING, Factory, field, fields, frozen

from helexa.wire.fleet import DeviceHealth, DeviceInfo, KvCache, Limit, Processor, Steps
from helexa.wire.progress import Progress

_T = TypeVar("_T")
_plain: Final = cattrs.Converter(detailed_validation=False)


@frozen
class Held:
    """A model on a node, as in ``/fleet``; see ``helexa.wire.fleet.ModelReport``."""

    id: str = "?"
    status: str = "unloaded"
    device: str | None = None
    memory_mb: int = 0
    kv_mb: int = 0
    limit: Limit | None = None
    capabilities: tuple[str, ...] = ()
    running: int = 0
    waiting: int = 0
    in_flight: int = 0
    capacity: int = 0
    error: str | None = None
    kv: KvCache | None = None
    steps: Steps | None = None
    progress: Progress | None = None
    pinned: bool = False
    draining: bool = False
    idle_seconds: float | None = None


@frozen
class Found:
    """A node's hardware, as in ``/discovery``."""

    hostname: str = "?"
    os: str = ""
    driver: str | None = None
    cuda: str | None = None
    devices: tuple[DeviceInfo, ...] = ()
    processor: Processor | None = None
    unavailable_reason: str | None = None


@frozen
class Node:
    """A neuron, as in ``/fleet``."""

    name: str = "?"
    endpoint: str = ""
    up: bool = False
    error: str | None = None
    uptime_seconds: float | None = None
    devices: tuple[DeviceHealth, ...] = ()
    models: tuple[Held, ...] = ()
    discovery: Found | None = None
    version: Mapping[str, Any] = field(factory=dict)


@frozen
class Coming:
    """A load under way."""

    model: str = "?"
    node: str = "?"
    device: str = ""
    evicts: tuple[str, ...] = ()
    seconds: float = 0.0


@frozen
class File:
    """The topology in force, and what is wrong with its latest edit."""

    applied_at: float = 0.0
    problems: tuple[str, ...] = ()


@frozen
class Fleet:
    """``/fleet``."""

    nodes: tuple[Node, ...] = ()
    catalogue: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(factory=dict)
    loads: tuple[Coming, ...] = ()
    topology: File = File()

    def node(self, name: str) -> Node | None:
        """The node of that name."""
        return next((node for node in self.nodes if node.name == name), None)


@frozen
class Place:
    """A node that has a model, or could."""

    node: str = "?"
    status: str = "unloaded"
    memory_mb: int = 0


@frozen
class Model:
    """An entry of ``/v1/models``; an alias is one, too."""

    id: str = "?"
    status: str = ""
    loaded: bool = False
    feasible_on: tuple[str, ...] = ()
    locations: tuple[Place, ...] = ()
    capabilities: tuple[str, ...] = ()
    limit: Limit | None = None
    cost: Mapping[str, float] | None = None


@frozen
class Actor:
    """An entry of ``/fleet/actors``."""

    name: str = "?"
    state: str = "?"
    restarts: int = 0
    mailbox_depth: int = 0
    last_error: str | None = None
    since_seconds: float = 0.0


@frozen
class Request:
    """An entry of ``/fleet/requests``."""

    number: int = 0
    request_id: str = ""
    route: str = ""
    key: str | None = None
    model: str = ""
    node: str = ""
    attempts: int = 0
    state: str = "?"
    seconds: float = 0.0
    ago: float | None = None
    waited: float | None = None
    first_token: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    rate: float | None = None
    status: int | None = None
    code: str | None = None


@frozen
class Requests:
    """``/fleet/requests``."""

    running: tuple[Request, ...] = ()
    ended: tuple[Request, ...] = ()


@frozen
class Line:
    """A line of ``/fleet/logs``."""

    id: int = 0
    time: float = 0.0
    level: str = "info"
    event: str = ""
    fields: Mapping[str, Any] = field(factory=dict)
    node: str = ""


@frozen
class Event:
    """One of ``/fleet/events``."""

    id: int = 0
    time: float = 0.0
    event: str = ""
    data: Mapping[str, Any] = field(factory=dict)


def read(kind: type[_T], data: Any) -> _T:
    """Read a shape of this module; never fails."""
    given = data if isinstance(data, Mapping) else {}
    plan = _plan(cast("Any", kind))
    return kind(**{name: _value(given.get(name), hint, as_is, default) for name, hint, as_is, default in plan})


def read_list(kind: type[_T], data: Any) -> tuple[_T, ...]:
    """Read a list of shapes; what is no list is an empty one."""
    return tuple(read(kind, each) for each in data) if isinstance(data, list | tuple) else ()


@cache
def _plan(kind: Any) -> tuple[tuple[str, Any, frozenset[type], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((each.name, hints[each.name], _as_is(hints[each.name]), each.default) for each in fields(kind))


def _as_is(hint: Any) -> frozenset[type]:
    """What need not be converted: most of what a large fleet tells, which is read once a second."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return frozenset(members) & {str, int, float, bool}


def _value(given: Any, hint: Any, as_is: frozenset[type], default: Any) -> Any:
    if given.__class__ in as_is:
        return given
    if given is not None:
        try:
            return _structure(given, hint)
        except Exception:  # noqa: BLE001, S110 - whatever a converter stumbles over, it is not what was expected
            pass
    return default.factory() if isinstance(default, Factory) else None if default is NOTHING else default  # type: ignore[arg-type]


def _structure(given: Any, hint: Any) -> Any:
    inner = _inner(hint)
    if inner is None:
        return _plain.structure(given, hint)
    return read_list(inner, given) if _is_tuple(hint) else read(inner, given)


@cache
def _inner(hint: Any) -> Any:
    """The shape of this module that a hint is about: by itself, optional, or in a tuple."""
    named = [each for each in (hint, *getattr(hint, "__args__", ())) if getattr(each, "__module__", "") == __name__]
    return named[0] if named else None


def _is_tuple(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is tuple
