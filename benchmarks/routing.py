"""What a routing decision takes with 200 neurons and 1,000 models: pure Python in one process, no network.

The fleet: every neuron has a GPU and 40 models loaded on it; one model is loaded on every neuron, one on 20, the rest
on a few or none. Each neuron has requests in flight, so that no decision is the trivial one. For each kind of request
the median, over rounds, of the mean time of one decision is printed, and the slowest round; one decision is also what a
request pays that waits for a load, each time something happens in the fleet.

    .venv/bin/python benchmarks/routing.py [--rounds 20] [--json FILE]
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter

from config import Model, Neuron, Topology
from helexa.cortex.routing import listing
from helexa.cortex.routing.fleet import Sighting
from helexa.cortex.routing.policy import ColdLoad, Route, Unknown, Wanted
from helexa.cortex.routing.state import NodeDown, NodeUp, State
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery, Estimate, ModelReport, Version

NEURONS, MODELS, LOADED_EACH = 200, 1000, 40
TOTAL_MB, MODEL_MB = 48_000, 1_000
BUDGET_US = 50.0
EVERYWHERE, ON_20, ON_1, FITS, EVICTS = "m/everywhere", "m/on-20", "m/on-1", "m/small", "m/large"
VERSION = Version("0", None, None, None, "3", "2", "5", None, 0.0)
NAMED = (EVERYWHERE, ON_20, ON_1, FITS, EVICTS)
OTHERS = tuple(f"m/{index}" for index in range(MODELS - len(NAMED)))


def sighting(index: int, rng: Random) -> Sighting:
    """What one of the neurons says."""
    there = [EVERYWHERE, *([ON_20] if index % 10 == 0 else []), *([ON_1] if index == NEURONS - 1 else [])]
    there += rng.sample(OTHERS, LOADED_EACH - len(there))
    reports = tuple(ModelReport(each, "loaded", "cuda:0", MODEL_MB, capacity=64) for each in there)
    needs = {each: Estimate(each, MODEL_MB) for each in (*NAMED, *OTHERS)}
    needs[EVICTS] = Estimate(EVICTS, TOTAL_MB - 2 * MODEL_MB)
    devices = (DeviceHealth("cuda:0", TOTAL_MB, LOADED_EACH * MODEL_MB),)
    found = Discovery(f"box-{index}", "Linux", None, (DeviceInfo(0, "cuda:0", "GPU", TOTAL_MB),))
    return Sighting(found, VERSION, 1.0, devices, reports, estimates=needs)


def busy_fleet() -> State:
    """The whole fleet, with requests in flight."""
    rng, now = Random(7), iter(range(10**9))
    neurons = tuple(Neuron(f"n{index:03}", endpoint=f"http://n{index:03}:1") for index in range(NEURONS))
    models = tuple(Model(each, source="helexa") for each in (*NAMED, *OTHERS))
    state = State(Topology(neurons=neurons, models=models, aliases={"alias": EVERYWHERE}), lambda: float(next(now)))
    for index, neuron in enumerate(neurons):
        state.see(NodeUp(neuron.name, sighting(index, rng)))
        for model in (EVERYWHERE, ON_20, ON_1):
            for _ in range(rng.randrange(1, 20)):
                state.open(Route(neuron.name, neuron.endpoint, model))
    return state


def seconds(rounds: int, count: int, call: Callable[[], object]) -> tuple[float, float]:
    """Median and worst of the rounds' means of one call."""
    found = []
    for _ in range(rounds):
        start = perf_counter()
        for _ in range(count):
            call()
        found.append((perf_counter() - start) / count)
    return statistics.median(found), max(found)


def decision(state: State, wanted: Wanted, kind: type[object]) -> Callable[[], object]:
    found = state.decide(wanted)
    if not isinstance(found, kind):
        raise SystemExit(f"{wanted.name}: {found}, and not a {kind.__name__}")
    return lambda: state.decide(wanted)


def cases(state: State) -> dict[str, tuple[int, Callable[[], object]]]:
    """Calls to be timed, and how many of each are a round."""
    prefixes = tuple(bytes([index]) * 16 for index in range(8))
    seen, other = state.fleet.nodes["n000"], f"n{NEURONS - 1:03}"
    assert seen.sighting is not None
    again = NodeUp("n000", seen.sighting)

    def came_and_went() -> None:
        state.see(NodeDown("n000", "gone"))
        state.see(again)

    return {
        "loaded on 1 neuron": (1000, decision(state, Wanted(ON_1), Route)),
        "loaded on 20": (1000, decision(state, Wanted(ON_20), Route)),
        "loaded on 200": (1000, decision(state, Wanted(EVERYWHERE), Route)),
        "loaded on 200, by its alias, with 8 prefixes": (1000, decision(state, Wanted("alias", prefixes), Route)),
        "loaded on 200, one to avoid": (1000, decision(state, Wanted(EVERYWHERE, avoid=frozenset({other})), Route)),
        "unknown": (1000, decision(state, Wanted("m/unknown"), Unknown)),
        "cold load, it fits": (5, decision(state, Wanted(FITS), ColdLoad)),
        "cold load, others have to make room": (5, decision(state, Wanted(EVICTS), ColdLoad)),
        "a neuron's report, nothing new": (100, lambda: state.see(again)),
        "a neuron goes and comes back": (20, came_and_went),
        "the list of all models": (1, lambda: listing.models(state.fleet, 0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    found = {name: seconds(arguments.rounds, *case) for name, case in cases(busy_fleet()).items()}
    print(f"{NEURONS} neurons, {MODELS} models, {LOADED_EACH} on each; budget where it is loaded: {BUDGET_US:g} µs\n")
    print("| request | median µs | slowest round µs |\n|---|---:|---:|")
    for name, (median, worst) in found.items():
        over = " (over budget)" if name.startswith("loaded") and median * 1e6 > BUDGET_US else ""
        print(f"| {name} | {median * 1e6:,.1f}{over} | {worst * 1e6:,.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: {"median_s": a, "worst_s": b} for name, (a, b) in found.items()}))


if __name__ == "__main__":
    main()
