"""What a fleet is: the typed topology, read, checked and written."""

from pathlib import Path
from typing import Final

from config.access import Account, Cost, Entitlements, Key, Provider, ProviderKind, Route, Scope
from config.address import Address
from config.bench import Bench, BenchTarget, Hours, Suite
from config.budgets import Budget, BudgetUnit, Window, WindowKind
from config.diff import CORTEX_AT_START, Change, Changes, diff
from config.load import load, parse
from config.problems import InvalidValueError, Problem, TopologyError
from config.save import dumps, save
from config.supervision import ActorSection, ActorSettings, PollerSection, RestartPolicy
from config.topology import (
    BUNDLED_MODEL,
    Capability,
    Cortex,
    DatabaseAway,
    Eviction,
    EvictionStrategy,
    Limits,
    Listener,
    Media,
    Model,
    Neuron,
    Quant,
    Tls,
    Topology,
)
from config.units import NEVER, Duration, Size, format_duration, format_size, parse_duration, parse_size

DEMO: Final = Path(__file__).with_name("demo.toml")
HOMELAB: Final = Path(__file__).with_name("homelab.toml")

__all__ = [
    "BUNDLED_MODEL",
    "CORTEX_AT_START",
    "DEMO",
    "HOMELAB",
    "NEVER",
    "Account",
    "ActorSection",
    "ActorSettings",
    "Address",
    "Bench",
    "BenchTarget",
    "Budget",
    "BudgetUnit",
    "Capability",
    "Change",
    "Changes",
    "Cortex",
    "Cost",
    "DatabaseAway",
    "Duration",
    "Entitlements",
    "Eviction",
    "EvictionStrategy",
    "Hours",
    "InvalidValueError",
    "Key",
    "Limits",
    "Listener",
    "Media",
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
    "Suite",
    "Tls",
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
