"""Scenarios by name, sets of them, and how they are spelled on a command line. Pure, but for what they do later."""

import math
from collections.abc import Mapping
from typing import Any, Final

from attrs import Attribute, fields

from helexa.bench.measuring.scenario import Scenario
from helexa.bench.scenarios.chat import Chat
from helexa.bench.scenarios.embeddings import Embeddings
from helexa.bench.scenarios.long import Long
from helexa.bench.scenarios.poisson import Poisson
from helexa.bench.scenarios.prefix import Prefix
from helexa.bench.scenarios.quality import Quality
from helexa.bench.scenarios.structured import Structured
from helexa.bench.scenarios.throughput import Throughput
from helexa.bench.scenarios.tools import Tools

_ALL: Final = (Chat, Throughput, Poisson, Prefix, Long, Tools, Structured, Embeddings, Quality)
SCENARIOS: Final[Mapping[str, type[Scenario]]] = {scenario.name: scenario for scenario in _ALL}
_QUICK: Final = (
    Chat(prompt_tokens=128, output_tokens=32),
    Throughput(clients=4, output_tokens=32, requests=1),
    Prefix(prompt_tokens=512),
    Structured(),
    Quality(),
)
_STANDARD: Final = (
    Chat(prompt_tokens=128, output_tokens=128),
    Chat(prompt_tokens=4096, output_tokens=128, requests=1),
    *(Throughput(clients=clients, output_tokens=128) for clients in (1, 4, 16)),
    Poisson(rate=2.0),
    Prefix(prompt_tokens=2048),
    Long(),
    Tools(),
    Structured(),
    Embeddings(),
    Quality(),
)
_FULL: Final = (
    *_STANDARD,
    *(Throughput(clients=clients, output_tokens=128) for clients in (2, 8, 32, 64)),
    *(Poisson(rate=rate, requests=32) for rate in (1.0, 4.0, 8.0, 16.0)),
    Prefix(prompt_tokens=512),
    Prefix(prompt_tokens=8192),
    Long(fill=0.5),
)
_SUITES: Final[Mapping[str, tuple[Scenario, ...]]] = {"quick": _QUICK, "standard": _STANDARD, "full": _FULL}
SUITES: Final = tuple(_SUITES)
_KINDS: Final[Mapping[Any, str]] = {int: "a whole number", float: "a number"}


def suite(name: str) -> tuple[Scenario, ...]:
    """The scenarios of ``quick``, ``standard`` or ``full``.

    Raises:
        ValueError: there is none of that name; a sentence.
    """
    if name not in _SUITES:
        raise ValueError(f"There is no suite {name!r}; there are {_listed(_SUITES)}.")
    return _SUITES[name]


def parse(text: str) -> Scenario:
    """A scenario as the command line says it, e.g. ``chat`` or ``chat:prompt_tokens=4096,output_tokens=64``.

    Raises:
        ValueError: there is no such scenario or parameter, or it cannot be that; a sentence.
    """
    name, _, given = (part.strip() for part in text.partition(":"))
    if name not in SCENARIOS:
        raise ValueError(f"There is no scenario {name!r}; there are {_listed(SCENARIOS)}.")
    kind = SCENARIOS[name]
    parameters: dict[str, Any] = {}
    for part in filter(None, given.split(",")):
        key, value = _parameter(kind, part)
        if key in parameters:
            raise ValueError(f"{kind.name}: {key} is given twice.")
        parameters[key] = value
    return _made(kind, parameters)


def _made(kind: type[Scenario], parameters: Mapping[str, Any]) -> Scenario:
    try:
        return kind(**parameters)
    except ValueError as error:
        raise ValueError(f"{kind.name}: {error}") from None


def _parameter(kind: type[Scenario], text: str) -> tuple[str, Any]:
    key, equals, value = (part.strip() for part in text.partition("="))
    known = {each.name: each for each in fields(kind)}
    if key not in known:
        there = f"it has {_listed(known)}" if known else "it has none"
        raise ValueError(f"{kind.name} has no parameter {key!r}; {there}.")
    if not equals:
        raise ValueError(f"{kind.name}: {key} has no value; write {key}=….")
    return key, _value(kind, known[key], value)


def _value(kind: type[Scenario], attribute: "Attribute[Any]", text: str) -> Any:
    try:
        found = attribute.type(text) if attribute.type else text
    except ValueError:
        found = math.nan
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError(f"{kind.name}: {attribute.name} has to be {_KINDS[attribute.type]}, not {text!r}.")
    return found


def _listed(names: Mapping[str, Any]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
