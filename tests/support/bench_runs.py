"""Runs made up for tests: seeded, with the kinds of noise that machines have."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import evolve

from helexa.bench.records import Build, Cell, Metric, Run, Sample, Target

START = 1_790_000_000.0
DAY = 86_400.0

TTFT = Metric("ttft", "time to first token", "s", "lower", primary=True)
DECODE = Metric("decode", "decode", "tokens/s", "higher", primary=True)
TOTAL = Metric("total", "total", "s", "lower")
ENERGY = Metric("energy", "energy", "J/token", "lower")
LOGLIK = Metric("loglik", "log-likelihood", "nats/token", "higher", primary=True)
VALID = Metric("valid", "valid", "", "higher", primary=True)
CHAT = (TTFT, DECODE, TOTAL)
LEVELS = {"ttft": 0.120, "decode": 85.0, "total": 1.9, "energy": 3.2, "loglik": -2.31, "valid": 0.98}

BUILD_A = Build("helexa 0.1.0 aaaaaaa", {"version": "0.1.0", "commit": "aaaaaaa", "device": "cpu"})
BUILD_B = Build("helexa 0.1.0 bbbbbbb", {"version": "0.1.0", "commit": "bbbbbbb", "device": "cpu"})


def cell(
    target: str = "beast", model: str = "qwen3-8b", scenario: str = "chat", parameters: Mapping[str, Any] | None = None
) -> Cell:
    return Cell(target, model, scenario, {"prompt_tokens": 128} if parameters is None else parameters)


def run(  # noqa: PLR0913 - everything a test may want to name
    values: Mapping[str, Sequence[float]] | None = None,
    *,
    of: Cell | None = None,
    build: Build = BUILD_A,
    number: int = 0,
    batch: str = "",
    at: float | None = None,
    metrics: tuple[Metric, ...] = CHAT,
    label: str = "",
) -> Run:
    """A run with one sample per round; ``values`` by metric, one per round."""
    what, given = of or cell(), values or {"ttft": [0.12] * 5, "decode": [85.0] * 5, "total": [1.9] * 5}
    begun = START + number * DAY if at is None else at
    rounds = range(max(len(column) for column in given.values()))
    samples = tuple(
        Sample(i, begun + 10.0 * i, {name: column[i] for name, column in given.items() if i < len(column)})
        for i in rounds
    )
    named = batch or f"batch-{number:04d}"
    target = Target(what.target, "neuron", f"http://{what.target}:13131")
    return Run(
        f"{named}-{what.key}", named, begun, 10.0 * len(samples), target, what, build, metrics, "ok", "", label, samples
    )


def failed(reason: str = "The target did not answer within 5 s.", *, of: Cell | None = None, number: int = 0) -> Run:
    """A run that measured nothing."""
    whole = run(of=of, number=number)
    samples = tuple(Sample(sample.round, sample.at, {}, reason) for sample in whole.samples)
    return evolve(whole, outcome="failed", reason=reason, samples=samples)


Machine: TypeAlias = Callable[[float], float]
"""What slows everything down at a time in seconds; asked in the order of time."""


def white(seed: int, sigma: float) -> Machine:
    """Every measurement varies by itself."""
    generator = random.Random(seed)
    return lambda _: math.exp(generator.gauss(0, sigma))


def drifting(seed: int, sigma: float, memory: float, own: float = 0.02) -> Machine:
    """A speed that wanders by ``sigma`` and forgets within ``memory`` seconds, beside noise of its own."""
    generator = random.Random(seed)
    state, last = generator.gauss(0, sigma), 0.0

    def factor(at: float) -> float:
        nonlocal state, last
        kept = math.exp(-abs(at - last) / memory)
        state, last = kept * state + generator.gauss(0, sigma * math.sqrt(1 - kept**2)), at
        return math.exp(state + generator.gauss(0, own))

    return factor


def bursts(seed: int, chance: float, size: float, own: float = 0.03) -> Machine:
    """Now and then something else runs, and one measurement takes ``size`` times as long."""
    generator = random.Random(seed)
    return lambda _: math.exp(generator.gauss(0, own)) * (size if generator.random() < chance else 1.0)


def bimodal(seed: int, size: float, own: float = 0.02) -> Machine:
    """Two speeds, such as with and without a clock boost, each half of the time."""
    generator = random.Random(seed)
    return lambda _: math.exp(generator.gauss(0, own)) * generator.choice((1.0, size))


def measured(  # noqa: PLR0913 - everything that makes a batch
    machine: Machine,
    cells: Sequence[Cell],
    *,
    rounds: int = 5,
    factor: float = 1.0,
    at: float = START,
    build: Build = BUILD_A,
    metrics: tuple[Metric, ...] = (TTFT, DECODE),
    batch: str = "",
) -> list[Run]:
    """A batch as the runner takes it: rounds outside, cells inside, a second each; ``factor`` slows all of it."""
    columns: dict[int, list[float]] = {index: [] for index in range(len(cells))}
    for turn in range(rounds * len(cells)):
        columns[turn % len(cells)].append(factor * machine(at + turn))
    named = batch or f"batch-{at:.0f}"
    return [
        run(
            {metric.name: [_level(metric, slower) for slower in columns[index]] for metric in metrics},
            of=what,
            build=build,
            at=at + index,
            batch=named,
            metrics=metrics,
        )
        for index, what in enumerate(cells)
    ]


def _level(metric: Metric, slower: float) -> float:
    return LEVELS[metric.name] * (slower if metric.better == "lower" else 1 / slower)
