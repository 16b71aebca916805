"""Energy from power that was looked at now and then."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.measuring import energy
from helexa.bench.measuring.energy import added, joules, metered
from helexa.bench.records import Sample


def test_energy_is_the_area_under_the_power() -> None:
    assert joules([(0.0, 100.0), (1.0, 200.0), (3.0, 200.0)]) == 550.0


def test_one_look_is_no_energy() -> None:
    assert (joules([]), joules([(0.0, 100.0)])) == (None, None)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=20), st.floats(0, 1000))
def test_constant_power_is_energy_by_time(gaps: list[float], watts: float) -> None:
    at, points = 0.0, []
    for gap in gaps:
        points.append((at, watts))
        at += gap
    assert joules(points) == pytest.approx(watts * points[-1][0])


def test_energy_per_token_is_of_all_samples_of_a_round() -> None:
    samples = [Sample(0, 1.0, {"ttft": 1.0}), Sample(0, 1.0, error="gone")]
    first, second = added(samples, 50.0, 10)
    assert (first.values, second.values, second.error) == ({"ttft": 1.0, "energy": 5.0}, {}, "gone")
    assert added(samples, None, 10) == samples == added(samples, 50.0, 0)


async def test_power_is_looked_at_before_meanwhile_and_after(autojump_clock: trio.testing.MockClock) -> None:
    looks: list[float] = []

    async def look() -> float:
        looks.append(trio.current_time())
        return 100.0

    async def do() -> str:
        await trio.sleep(1.2)
        return "done"

    done, drawn = await metered(look, do)
    assert (done, drawn is not None) == ("done", True)
    assert [at - looks[0] for at in looks] == pytest.approx([0.0, 0.5, 1.0, 1.2])


async def test_a_look_that_hangs_holds_nothing_up(autojump_clock: trio.testing.MockClock) -> None:
    async def do() -> str:
        return "done"

    began = trio.current_time()
    assert await metered(trio.sleep_forever, do) == ("done", None)
    assert trio.current_time() - began <= 5


async def test_what_goes_wrong_is_raised_as_it_is() -> None:
    async def look() -> None:
        return None

    async def do() -> str:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        await metered(look, do)


def test_energy_is_shown_and_judged_by_others() -> None:
    assert (energy.ENERGY.unit, energy.ENERGY.better, energy.ENERGY.primary) == ("J/token", "lower", False)
