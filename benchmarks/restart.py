"""How long a device serves nobody after its worker was killed: from ``kill -9`` to the first token of a new request.

    .venv/bin/just bench-restart [--rounds 10] [--model DIRECTORY] [--device cpu] [--json FILE]

The engine worker of one device, under the supervisor that a neuron has, with the pause that a topology has by default
(about a second, before a process that may die again at once); the bundled model unless another one is named.
"""

import argparse
import json
import os
import signal
import statistics
import sys
from itertools import pairwise
from logging import CRITICAL
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # actors is a package of the repository's root

import structlog
import trio

from actors.actor import ActorStatus
from actors.device_worker import DeviceWorker
from actors.supervisor import Supervisor
from config import RestartPolicy
from config.units import Duration
from helexa.tiny import CHECKPOINT
from helexa.wire.sampling import SamplingParams

POLICY = RestartPolicy(max=1000, window=Duration(0.1))
"""Each death counts as the first one: of those that follow each other the pauses grow."""
PATIENCE = 300.0
PARTS = ("noticed, and paused", "process started", "model loaded", "first token")
Figures = dict[str, float]


class Watched:
    """One worker, and when its states began."""

    def __init__(self, device: str, path: str) -> None:
        self.worker, self.path = DeviceWorker(device), path
        self.supervisor = Supervisor("benchmark", on_change=self._note)
        self.began: dict[str, float] = {}

    def _note(self, status: ActorStatus) -> None:
        self.began[status.state] = perf_counter()

    async def first_token(self) -> None:
        generation = self.worker.submit("m", [5, 6, 7], SamplingParams(temperature=0, max_tokens=4), "benchmark")
        (news,) = await generation.progress()
        generation.close()
        assert news.ids, f"there was no token: {news.end}"

    async def kill(self) -> Figures:
        """Kill the process; seconds of each part until a new one has answered."""
        assert self.worker.pid is not None
        self.began.clear()
        killed = perf_counter()
        os.kill(self.worker.pid, signal.SIGKILL)
        while self.worker.reports()[0].status == "loaded":  # noqa: ASYNC110 - nothing tells of a death
            await trio.sleep(0.001)
        await self.worker.load("m", self.path)  # is being loaded already: waits for that
        loaded = perf_counter()
        await self.first_token()
        marks = [killed, self.began["starting"], self.began["running"], loaded, perf_counter()]
        return dict(zip(PARTS, (after - before for before, after in pairwise(marks)), strict=True))


async def measure(options: argparse.Namespace) -> list[Figures]:
    watched, found = Watched(options.device, options.model), []
    async with trio.open_nursery() as nursery:
        await nursery.start(watched.supervisor.run)
        watched.supervisor.spawn(watched.worker, POLICY, escalate=False)
        with trio.fail_after(PATIENCE):
            await watched.worker.load("m", options.model)
            await watched.first_token()
        for number in range(options.rounds):
            print(f"kill {number + 1} of {options.rounds}", file=sys.stderr)
            with trio.fail_after(PATIENCE):
                found.append(await watched.kill())
        nursery.cancel_scope.cancel()
    return found


def table(found: list[Figures]) -> None:
    rows: dict[str, Any] = {part: [each[part] for each in found] for part in PARTS}
    rows["in all"] = [sum(each.values()) for each in found]
    print(f"{len(found)} kills:\n\n| seconds | p50 | most |\n|---|--:|--:|")
    for name, seconds in rows.items():
        print(f"| {name} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--model", default=str(CHECKPOINT))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))  # each death would be told
    found = trio.run(measure, options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    table(found)


if __name__ == "__main__":
    main()
