"""What a fleet is: the typed topology, read, checked and written."""

from pathlib import Path
from typing import Final

from config.access import Entitlements, Key, Provider, ProviderKind, Route, Scope, Window, WindowKind
from config.address import Address
from config.diff import Change, Changes, diff
from config.load import load, parse
from config.problems import InvalidValueError, Problem, TopologyError
from config.save import dumps, save
from config.supervision import ActorSection, ActorSettings, PollerSection, RestartPolicy
from config.topology import (
    BUNDLED_MODEL,
    Bench,
    Capability,
    Cortex,
    Cost,
    Eviction,
    EvictionStrategy,
    Listener,
    Model,
    Neuron,
    Quant,
    Topology,
)
from config.units import NEVER, Duration, Size, format_duration, format_size, parse_duration, parse_size

DEMO: Final = Path(__file__).with_name("demo.toml")
HOMELAB: Final = Path(__file__).with_name("homelab.toml")

__all__ = [
    "BUNDLED_MODEL",
    "DEMO",
    "HOMELAB",
    "NEVER",
    "ActorSection",
    "ActorSettings",
    "Address",
    "Bench",
    "Capability",
    "Change",
    "Changes",
    "Cortex",
    "Cost",
    "Duration",
    "Entitlements",
    "Eviction",
    "EvictionStrategy",
    "InvalidValueError",
    "Key",
    "Listener",
    "Model",
    "Neuron",
    "PollerSection",
    "Problem",
    "Provider",
    "ProviderKind",
    "Quant",
    "RestartPolicy",
    "Route",
    "Scope",
    "Size",
    "Topology",
    "TopologyError",
    "Window",
    "WindowKind",
    "diff",
    "dumps",
    "format_duration",
    "format_size",
    "load",
    "parse",
    "parse_duration",
    "parse_size",
    "save",
]
