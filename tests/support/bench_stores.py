"""Parts of the tests of where runs are kept."""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve

from helexa.bench.records import Build, Cell, Metric, Run, Sample, Target
from helexa.bench.storage.kept import Summary

NOW = 1_790_000_000.0
TTFT = Metric("ttft", "time to first token", "s", "lower", primary=True)
DECODE = Metric("decode", "decode", "tokens/s", "higher", primary=True)
BUILDS = tuple(Build(f"helexa 0.{n}", {"commit": f"{n:07d}"}) for n in range(4))
CHAT = Cell("gpu1", "qwen", "chat", {"prompt_tokens": 128})

ODD = 'Ünicode "quoted" \\ 100% _ ; \'--'
EVERYTHING = Run(
    "b7-01",
    "b7",
    1_790_000_000.25,
    12.5,
    Target(ODD, "cortex", "https://gpu1:31313"),
    Cell(ODD, "m/[x]?", "prefix", {"warm": True, "lengths": [1, 2.5, None], "deep": {"%s": ":name"}}),
    Build(ODD, {"driver": "570.1", "device": ODD, "empty": ""}),
    (TTFT, DECODE),
    "ok",
    "",
    ODD,
    (
        Sample(0, 1_790_000_000.5, {"ttft": 0.1 + 0.2, "decode": 1e-300}),
        Sample(0, 1_790_000_001.5, {}, 'it said "no" \u2014\n twice'),
        Sample(1, 1_790_000_002.5, {"ttft": 0.5, "decode": 1.7e308}),
    ),
)


def made(
    identity: str, cell: Cell = CHAT, build: Build = BUILDS[0], values: Sequence[float] = (1.0,), **how: Any
) -> Run:
    """A run; its batch is what its id begins with."""
    samples = tuple(Sample(number, NOW, {"ttft": value}) for number, value in enumerate(values))
    target = Target(cell.target, "neuron", f"http://{cell.target}:31314")
    batch = identity.partition("-")[0]
    return evolve(Run(identity, batch, NOW, 1.0, target, cell, build, (TTFT,), "ok", samples=samples), **how)


def failed(identity: str, **how: Any) -> Run:
    """A run that measured nothing."""
    return made(identity, values=(), outcome="failed", reason="it is not reachable", **how)


def ids(runs: Iterable[Run | Summary]) -> list[str]:
    """Which they are."""
    return [each.id for each in runs]
