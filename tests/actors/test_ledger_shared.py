"""Ledgers that share a database, at the same time or one after the other."""

import signal
import sys
import time
from pathlib import Path

import pytest
import trio
from http_parts import until
from ledger_parts import Away, Clock, Settings, ask, booked, leased, payer_of, use

from actors import ledger as module
from actors.ledger import Ledger
from config import Budget


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FLUSH_SECONDS", 0.002), ("TICK_SECONDS", 0.005), ("OTHERS_SECONDS", 0.005)):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(path: Path) -> Away:
    return Away(f"sqlite:///{path}")


@pytest.fixture
def ledger(store: Away, tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(store, tmp_path / "ledger", Settings(), clock)


@pytest.fixture
async def running(nursery: trio.Nursery, ledger: Ledger) -> Ledger:
    await nursery.start(ledger.run)
    return ledger


def other_gateway(path: Path, clock: Clock) -> Ledger:
    return Ledger(Away(f"sqlite:///{path}"), path.parent / "other", Settings(), clock)


async def test_what_one_gateway_has_spent_the_other_does_not_spend_again(
    running: Ledger, nursery: trio.Nursery, path: Path, clock: Clock
) -> None:
    other = other_gateway(path, clock)
    await nursery.start(other.run)
    whose = payer_of(Budget(requests=10))
    served = 0
    for number in range(24):
        clock.now += 0.3
        try:
            charge = await (running if number % 2 else other).reserve(whose, ask())
        except module.ApiError:
            continue
        use(charge, 1, 1)
        served += 1
    assert served == 10


async def test_a_busy_gateway_that_has_leased_all_shares_it_with_one_that_comes(
    running: Ledger, nursery: trio.Nursery, path: Path, clock: Clock
) -> None:
    whose = payer_of(Budget(tokens=10_000))
    held = await running.reserve(whose, ask())
    assert leased(path, *whose.limits) == [(0, 10_000)]
    other = other_gateway(path, clock)
    await nursery.start(other.run)

    async def go_on() -> None:
        while True:
            clock.now += 0.01
            use(await running.reserve(whose, ask(1, 1)), 1, 0)
            await trio.sleep(0.001)

    nursery.start_soon(go_on)
    charge = await other.reserve(whose, ask())
    assert charge.full
    held.settle()
    charge.settle()


async def test_who_would_get_less_waits_a_moment_for_other_gateways(
    running: Ledger, nursery: trio.Nursery, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    whose = payer_of(Budget(tokens=1000))
    held = await running.reserve(whose, ask(400, 400))
    clock.now += 2
    await until(lambda: leased(path, *whose.limits) == [(0, 800)])
    other = other_gateway(path, clock)
    await nursery.start(other.run)

    async def go_on() -> None:
        while True:
            clock.now += 0.1
            await trio.sleep(0.005)

    nursery.start_soon(go_on)
    less = await other.reserve(whose, ask(100, 500, limited=False))
    assert (less.total, less.full) == (200, False)
    less.settle()
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 4)
    async with trio.open_nursery() as both:
        both.start_soon(other.reserve, whose, ask(100, 500, limited=False))
        await trio.sleep(0.05)
        held.settle()
    assert other.figures().limits[0].left == 400, "all of it was set aside"


_KILLED = """
import os, signal, sys, trio
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from actors.ledger import Ledger
from config import Budget, Cortex
from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.store import UsageStore
from ledger_parts import ask, payer_of

async def main():
    directory = Path(sys.argv[1])
    ledger = Ledger(UsageStore(f"sqlite:///{directory}/usage.db"), directory / "ledger", Cortex)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        whose = payer_of(Budget(tokens=100_000))
        charges = [await ledger.reserve(whose, ask()) for _ in range(20)]
        for number, charge in enumerate(charges[:15]):
            charge.sent("n1", Prices())
            charge.deliver(number, 1, 0)
            if number < 10:
                charge.settle()
            if number == 5:
                await trio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


async def test_what_was_delivered_before_a_kill_is_booked_once_and_the_lease_is_gone(
    tmp_path: Path, path: Path, ledger: Ledger
) -> None:
    root = Path(module.__file__).parents[1]
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(root), str(root / "tests/support")]
    done = await trio.run_process(command, check=False, cwd=root)
    assert done.returncode == -signal.SIGKILL
    whose = payer_of(Budget(tokens=100_000))
    (limit,) = whose.limits
    assert leased(path, limit)[0][1] > 0
    used = sum(range(15)) + 15
    ledger._clock = ledger._keeper._clock = time.time
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        nursery.cancel_scope.cancel()
    assert booked(path) == {"name-k1": used}
    assert leased(path, limit) == [(used, 0)]
    assert len(list((tmp_path / "ledger").glob("*.slots"))) == 1
