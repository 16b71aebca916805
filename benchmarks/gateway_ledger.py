"""What keys and budgets cost: the gateway with neither, with keys, and with budgets on them, in one run.

    .venv/bin/just bench-budgets [--rounds 20] [--seconds 1] [--json FILE]

Three gateways in front of one canned upstream, as in ``gateway.py``: they take turns on one core, in an order that
turns round each time, and each round compares them pairwise, so that what a noisy machine does to one it does to all.
The key of the last one has budgets of tokens, requests and dollars, its account another one.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import trio
from attrs import frozen
from gateway import MODEL, STREAMED, WHOLE, Figures, check, figures, free_port, start, topology, wait_ready
from loadgen import load

OPEN, KEYS, BUDGETS = "no keys", "keys", "keys and budgets"
TASKS = (("whole, 1", WHOLE, 1), ("whole, 32", WHOLE, 32), ("streams, 32", STREAMED, 32))
KEY = f"""
[[entitlements.keys]]
name = "client"
account = "all"
key_hash = "sha256:{hashlib.sha256(b"none").hexdigest()}"
"""
"""What the load generator bears."""
BUDGET = """
budgets = [
  { tokens = 1_000_000_000_000, per = "1d" }, { requests = 1_000_000_000, per = "1h" }, { usd = 100_000.0 }
]
[[entitlements.accounts]]
name = "all"
budgets = [{ usd = 200_000.0, per = "30d" }]
"""
SETTINGS = {
    OPEN: "[entitlements]\nrequire_auth = false\n",
    KEYS: "[entitlements]\nrequire_auth = true\n" + KEY,
    BUDGETS: "[entitlements]\nrequire_auth = true\n" + KEY + BUDGET,
}


@frozen
class Gateway:
    """A running one: where it serves, and its process id."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time that it has used, to the nanosecond; ``/proc`` counts in hundredths of a second."""
        return time.clock_gettime(~self.pid << 3 | 2)  # what clock_getcpuclockid makes of a process id on Linux


def gateways(stack: ExitStack, directory: Path, cores: tuple[int, int]) -> dict[str, Gateway]:
    """Start one of each kind, and the upstream."""
    upstream, found = free_port(), dict[str, Gateway]()
    start(stack, cores[1], sys.executable, "benchmarks/servers.py", "canned", str(upstream), MODEL)
    for number, (name, settings) in enumerate(SETTINGS.items()):
        port, own = free_port(), directory / str(number)
        own.mkdir()
        (own / "topology.toml").write_text(topology(port, upstream, own) + settings)
        command = (sys.executable, "-m", "helexa", "up", str(own / "topology.toml"), "--host", "here")
        found[name] = Gateway(port, start(stack, cores[0], *command))
        wait_ready(f"http://127.0.0.1:{port}/ready")
    return found


def once(name: str, gateway: Gateway, data: bytes, clients: int, seconds: float) -> Figures:
    """One gateway's turn: what clients see, and ``cpu``, microseconds of its processor for each request."""
    cpu, begin = gateway.cpu(), time.monotonic()
    samples = trio.run(load, gateway.port, data, clients, seconds)
    check(name, samples)
    return figures(samples, time.monotonic() - begin) | {"cpu": 1e6 * (gateway.cpu() - cpu) / len(samples)}


def measure(found: dict[str, Gateway], rounds: int, seconds: float) -> dict[str, list[dict[str, Figures]]]:
    """By task, the rounds; each with all gateways. The first of a task warms up and is left out."""
    results: dict[str, list[dict[str, Figures]]] = {}
    for task, data, clients in TASKS:
        results[task] = []
        for number in range(rounds + 1):
            print(f"{task}: round {number} of {rounds}", file=sys.stderr)
            order = list(found.items()) if number % 2 else list(found.items())[::-1]
            each = {name: once(name, gateway, data, clients, seconds) for name, gateway in order}
            results[task] += [each] if number else []
    return results


def row(task: str, name: str, rounds: Sequence[dict[str, Figures]]) -> str:
    """One line of the table: medians, and medians of what differs from the first gateway in the same round."""

    def median(value: Callable[[Figures, Figures], float]) -> float:
        return statistics.median(value(each[name], each[OPEN]) for each in rounds)

    cells = [f"{median(lambda its, _: its['rate']):,.0f}", f"{1e3 * median(lambda its, _: its['p50']):,.0f}"]
    cells.append(f"{median(lambda its, _: its['cpu']):,.0f}")
    if name != OPEN:
        cells.append(f"{median(lambda its, first: its['rate'] / first['rate']):.3f}")
        cells.append(f"{1e3 * median(lambda its, first: its['p50'] - first['p50']):+,.0f}")
        cells.append(f"{median(lambda its, first: its['cpu'] - first['cpu']):+,.0f}")
    return f"| {task} | {name} | " + " | ".join([*cells, *[""] * (6 - len(cells))]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    cores = (first, others[0] if others else first)
    os.sched_setaffinity(0, {cores[1]})
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        results = measure(gateways(stack, Path(directory), cores), options.rounds, options.seconds)
    print("| what, clients | gateway | requests/s | p50 µs | CPU µs | requests/s ÷ | p50 added µs | CPU added µs |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for task, rounds in results.items():
        print("\n".join(row(task, name, rounds) for name in SETTINGS))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
