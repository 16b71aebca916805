"""One rank beside two: a model in one process, and spread over two, with as many CPU threads in all.

    .venv/bin/just bench-parallel [--rounds 2] [--shape qwen3-0.6b] [--devices cpu cpu] [--threads N] [--json FILE]

Both are actors as a neuron has them, with real processes behind them, and take turns; medians. Tokens are counted as
they arrive. On one host's CPU two ranks have nothing to win: the table is what passing results between them costs.
"""

import argparse
import json
import os
import statistics
import sys
from logging import CRITICAL
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # actors is a package of the repository's root

import structlog
import trio
from engine_targets import PROMPT, decode_rate, prompts
from shapes import SHAPES, checkpoint

from actors.device_worker import DeviceWorker
from actors.tp_leader import TpLeader
from helexa.wire.sampling import SamplingParams

BATCHES = (1, 8, 32)
OUTPUT, LONG = 24, 512
PATIENCE = 600.0
Figures = dict[str, Any]


async def generate(worker: DeviceWorker, batch: list[list[int]], output: int) -> list[list[float]]:
    """Seconds at which each token of each sequence was there."""
    stamps: list[list[float]] = [[] for _ in batch]

    async def read(number: int, ids: list[int]) -> None:
        generation = worker.submit("m", ids, SamplingParams(temperature=0, max_tokens=output), "benchmark")
        while news := await generation.progress():
            stamps[number] += [perf_counter()] * sum(len(each.ids) for each in news)
        generation.close()
        assert len(stamps[number]) == output, "it ended too early"

    async with trio.open_nursery() as nursery:
        for number, ids in enumerate(batch):
            nursery.start_soon(read, number, ids)
    return stamps


async def in_turn(worker: DeviceWorker, path: str) -> Figures:
    """All figures of one worker, whose processes are gone at the end."""
    figures: Figures = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        with trio.fail_after(PATIENCE):
            await worker.load("m", path)
            figures["memory"] = worker.reports()[0].memory_mb
            await generate(worker, prompts(1, PROMPT, 99), 4)
            for count in BATCHES:
                figures[f"{count}"] = decode_rate(await generate(worker, prompts(count, PROMPT, count), OUTPUT))
            begun = perf_counter()
            figures["prefill"] = LONG / ((await generate(worker, prompts(1, LONG, 7), 1))[0][0] - begun)
        nursery.cancel_scope.cancel()
    return figures


def table(results: dict[str, list[Figures]]) -> None:
    def median(target: str, key: str) -> float:
        return statistics.median(each[key] for each in results[target])

    one, two = results
    print(f"| | {one} | {two} | ÷ |\n|---|--:|--:|--:|")
    for count in BATCHES:
        title = f"tokens/s, {count} sequence{'s' if count > 1 else ''}"
        print(f"| {title} | {_row(median(one, f'{count}'), median(two, f'{count}'))} |")
    print(f"| prompt tokens/s, a prompt of {LONG} | {_row(median(one, 'prefill'), median(two, 'prefill'))} |")
    print(f"| MiB of weights on each device | {_row(median(one, 'memory'), median(two, 'memory'))} |")


def _row(first: float, second: float) -> str:
    return f"{first:.1f} | {second:.1f} | {second / first:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--devices", nargs=2, default=["cpu", "cpu"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2, help="of CPUs, in all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    path, threads = str(checkpoint(options.shape)), max(2, options.threads)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    results: dict[str, list[Figures]] = {"one rank": [], "two ranks": []}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        alone = DeviceWorker(options.devices[0], threads=threads)
        results["one rank"].append(trio.run(in_turn, alone, path))
        spread = TpLeader(options.devices, threads=threads // 2)
        results["two ranks"].append(trio.run(in_turn, spread, path))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    table(results)


if __name__ == "__main__":
    main()
