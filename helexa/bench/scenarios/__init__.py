"""The scenarios that there are, and how they are named on a command line."""

from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.scenarios.registry import SCENARIOS, SUITES, parse, suite

__all__ = ["SCENARIOS", "SUITES", "Scenario", "Skipped", "parse", "suite"]
