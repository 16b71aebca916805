"""How often a change is called where there is none, and how often one is missed, on machines that vary as machines do.

Simulated with fixed seeds: 12 cells with two primary metrics each, measured in turns, a second a sample. The metrics
of a sample share the machine's state, and all cells share its drift, as on a real host. So one mishap shows in both
metrics of a cell; it is one call.
"""

import random
from collections.abc import Callable

import pytest
from attrs import evolve
from bench_runs import BUILD_B, START, Machine, bimodal, bursts, cell, drifting, measured, white

from helexa.bench.analysis.compare import Comparison, changes, compare
from helexa.bench.records import Cell, Run

Make = Callable[[int], Machine]
CELLS = [cell(model=f"model-{number}") for number in range(12)]
PAUSE = 300.0

ORDINARY: dict[str, Make] = {
    "white 2 %": lambda seed: white(seed, 0.02),
    "white 3 %": lambda seed: white(seed, 0.03),
    "slow drift of 4 %": lambda seed: drifting(seed, 0.04, 1800),
}
BAD: dict[str, Make] = {
    "white 10 %": lambda seed: white(seed, 0.10),
    "drift of 10 % in 20 s": lambda seed: drifting(seed, 0.10, 20),
    "drift of 10 % in a minute": lambda seed: drifting(seed, 0.10, 60),
    "drift of 20 % in a minute": lambda seed: drifting(seed, 0.20, 60),
    "bursts of one in ten": lambda seed: bursts(seed, 0.10, 1.5),
    "bursts of one in five": lambda seed: bursts(seed, 0.20, 2.0),
    "two speeds": lambda seed: bimodal(seed, 1.25),
}


def batches(machine: Machine, count: int, *, rounds: int = 5, cells: list[Cell] = CELLS) -> list[list[Run]]:
    """Batches of one build, one after the other."""
    length = rounds * len(cells) + PAUSE
    return [measured(machine, cells, rounds=rounds, at=START + length * number) for number in range(count)]


def cells_called(compared: Comparison) -> set[str]:
    return {difference.cell.key for difference in (*compared.regressions, *compared.improvements)}


@pytest.mark.parametrize("noise", [*ORDINARY, *BAD])
def test_twenty_comparisons_of_a_build_with_itself_call_one_change_at_most(noise: str) -> None:
    runs = batches({**ORDINARY, **BAD}[noise](2), 24)
    called = []
    for place in range(4, 24):
        known = [run for batch in runs[: place - 1] for run in batch]
        compared = compare(runs[place - 1], runs[place], history=known)
        called += [(place, cell) for cell in cells_called(compared)]
    assert len(called) <= 1


@pytest.mark.parametrize("noise", ["white 2 %", "white 3 %", "white 10 %", "bursts of one in ten", "two speeds"])
def test_twenty_comparisons_without_a_history_call_one_change_at_most(noise: str) -> None:
    called = []
    for seed in range(20):
        before, after = batches({**ORDINARY, **BAD}[noise](200 + seed), 2)
        compared = compare(before, after)
        called += [(seed, cell) for cell in cells_called(compared)]
    assert len(called) <= 1


def found(make: Make, rounds: int, cells: list[Cell], factor: float = 1.2, seeds: int = 12) -> float:
    """The share of slowed figures that are called regressions, of one batch a side."""
    called = judged = 0
    for seed in range(seeds):
        machine = make(500 + seed)
        before = measured(machine, cells, rounds=rounds)
        at = START + rounds * len(cells) + PAUSE
        compared = compare(before, measured(machine, cells, rounds=rounds, at=at, factor=factor, build=BUILD_B))
        assert not compared.improvements
        called, judged = called + len(compared.regressions), judged + len(compared.differences)
    return called / judged


@pytest.mark.parametrize("noise", ORDINARY)
@pytest.mark.parametrize("rounds", [5, 7])
def test_a_fifth_slower_is_found_on_ordinary_noise(noise: str, rounds: int) -> None:
    assert found(ORDINARY[noise], rounds, CELLS) > 0.9


def test_a_fifth_slower_is_found_on_a_quiet_machine_in_a_single_cell() -> None:
    assert found(lambda seed: white(seed, 0.01), 5, CELLS[:1], seeds=40) > 0.97


def with_a_stall(run: Run, generator: random.Random) -> Run:
    """The run with one of its rounds held up, by 3 to 30 times."""
    place, size = generator.randrange(len(run.samples)), generator.uniform(3, 30)
    held = {"ttft": size, "decode": 1 / size}
    values = [{name: value * held[name] for name, value in sample.values.items()} for sample in run.samples]
    samples = [evolve(each, values=values[n]) if n == place else each for n, each in enumerate(run.samples)]
    return evolve(run, samples=tuple(samples))


@pytest.mark.parametrize("stalls", [("before",), ("after",), ("before", "after")])
@pytest.mark.parametrize("noise", [0.02, 0.03])
def test_a_fifth_slower_is_found_though_one_round_in_six_stalled(stalls: tuple[str, ...], noise: float) -> None:
    called = judged = 0
    for seed in range(8):
        machine, generator = white(700 + seed, noise), random.Random(seed)
        sides = measured(machine, CELLS, rounds=6), measured(machine, CELLS, rounds=6, factor=1.2, at=START + 500)
        before, after = (
            [with_a_stall(run, generator) if side in stalls else run for run in runs]
            for side, runs in zip(("before", "after"), sides, strict=True)
        )
        found = compare(before, after)
        called, judged = called + len(found.regressions), judged + len(found.differences)
    assert called / judged > 0.9


def test_stalls_alone_are_called_a_change_in_twenty_comparisons_once_at_most() -> None:
    called = []
    for seed in range(20):
        generator = random.Random(seed)
        before, after = ([with_a_stall(run, generator) for run in runs] for runs in batches(white(seed, 0.03), 2))
        called += [(seed, cell) for cell in cells_called(compare(before, after))]
    assert len(called) <= 1


def test_more_rounds_find_more() -> None:
    shares = [found(lambda seed: white(seed, 0.05), rounds, CELLS) for rounds in (5, 9, 15)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.95


def test_a_larger_slowdown_is_found_on_more_noise() -> None:
    assert found(lambda seed: white(seed, 0.10), 7, CELLS, factor=1.6) > 0.9


def test_a_history_with_a_slower_build_in_it_shows_the_step_and_nothing_else() -> None:
    machine = white(9, 0.03)
    length = 5 * len(CELLS) + PAUSE
    runs = [run for batch in batches(machine, 6) for run in batch]
    for number in range(6, 12):
        runs += measured(machine, CELLS, at=START + length * number, factor=1.2, build=BUILD_B)
    calls = changes(runs)
    assert {(change.verdict, change.after) for change in calls} == {("regression", BUILD_B)}
    assert len(calls) >= 23
