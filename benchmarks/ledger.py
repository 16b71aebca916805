"""The ledger by itself, and under a crowd.

    .venv/bin/just bench-ledger cost            what one request pays: reserve, tell, settle
    .venv/bin/just bench-ledger rows 1000000    booking so many rows, and starting on a ledger that has them
    .venv/bin/just bench-ledger crowd --clients 2000 --kills 20 --rounds 5
                                                gateways killed amid clients; each request is held against its row

The last one needs the dev extra: it is the end-to-end test of budgets, in whatever size, and ends with 1 if the books
are wrong.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import trio

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "support")]

from actors.ledger import Ledger  # noqa: E402 - the path comes first
from config import Budget, Cortex, Cost, Duration  # noqa: E402
from helexa.cortex.ledger.limits import Payer, Prices, payer  # noqa: E402
from helexa.cortex.ledger.ports import Ask  # noqa: E402
from helexa.cortex.ledger.rows import Row  # noqa: E402
from helexa.cortex.ledger.store import UsageStore  # noqa: E402

DAY = 86_400.0
PRICES = Prices.of(Cost(2.0, 10.0))
BUDGETS = (Budget(tokens=10**15, per=Duration(DAY)), Budget(requests=10**15), Budget(usd=1e6, per=Duration(30 * DAY)))
KEYS, ACCOUNTS = 1000, 50


def who(number: int, *, limited: bool = True) -> Payer:
    """One of the keys, with three budgets and one of its account."""
    account = f"account-{number % ACCOUNTS}"
    shared = {account: [Budget(tokens=10**15)]} if limited else {}
    return payer(f"id-{number}", f"key-{number}", account, BUDGETS if limited else (), shared)


def ask(number: int) -> Ask:
    return Ask(f"request-{number}", "/v1/chat/completions", "bench/model", 700, 256, limited=True, prices=PRICES)


def percentile(values: list[float], share: float) -> float:
    """In microseconds, of seconds."""
    return 1e6 * sorted(values)[int(len(values) * share)]


async def requests(ledger: Ledger, count: int, whose: Payer) -> list[float]:
    """Seconds that each of so many requests took, from its reservation until it is settled."""
    found = []
    for number in range(count):
        asked = ask(number)
        begin = perf_counter()
        charge = await ledger.reserve(whose, asked)
        charge.sent("node", PRICES)
        charge.deliver(20, 100, 0)
        charge.settle()
        found.append(perf_counter() - begin)
        if number % 50 == 0:
            await trio.sleep(0.002)  # as requests come in reality: what is settled is booked meanwhile
    return found


async def with_ledger(directory: Path, work: Callable[[Ledger], object]) -> None:
    """Run a ledger while something asynchronous is done with it."""
    ledger = Ledger(UsageStore(f"sqlite:///{directory}/helexa.db"), directory / "ledger", Cortex)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        await work(ledger)  # type: ignore[misc]
        nursery.cancel_scope.cancel()


def cost(count: int) -> None:
    print("| a key | p50 µs | p95 µs |\n|---|--:|--:|")
    for name, limited in (("without budgets", False), ("with three, and one of its account", True)):
        found: list[float] = []

        async def work(ledger: Ledger, found: list[float] = found, *, limited: bool = limited) -> None:
            await requests(ledger, 100, who(0, limited=limited))
            found += await requests(ledger, count, who(0, limited=limited))

        with tempfile.TemporaryDirectory() as directory:
            trio.run(with_ledger, Path(directory), work)
        print(f"| {name} | {percentile(found, 0.5):.1f} | {percentile(found, 0.95):.1f} |")


def row(number: int, at: float) -> Row:
    whose = who(number % KEYS)
    amounts = {"prompt": 700, "cached": 300, "completion": 100, "cost": PRICES.cost(700, 100)}
    known = {"key": whose.key, "name": whose.name, "account": whose.account, "model": "bench/model", "node": "node"}
    return Row(
        id=f"{number:x}", at=at, route="/v1/chat/completions", request_id=f"request-{number}", **known, **amounts
    )


def booked(store: UsageStore, count: int) -> list[float]:
    """Seconds that each flush of a thousand rows took; they are spread over thirty days."""
    found, now = [], time.time()
    store.open("bench", [], now)
    for begin in range(0, count, 1000):
        rows = [row(number, now - 30 * DAY * (1 - number / count)) for number in range(begin, min(count, begin + 1000))]
        started = perf_counter()
        store.flush("bench", rows, {}, now)
        found.append(perf_counter() - started)
    store.close_gateway("bench")
    return found


async def _started(directory: Path, whose: Payer) -> tuple[float, float]:
    """Seconds until a ledger has started, and from there until its first request is let in."""
    begin, times = perf_counter(), [0.0, 0.0]

    async def work(ledger: Ledger) -> None:
        times[0] = perf_counter() - begin
        (await ledger.reserve(whose, ask(0))).settle()
        times[1] = perf_counter() - begin - times[0]

    await with_ledger(directory, work)
    return times[0], times[1]


def rows(count: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = UsageStore(f"sqlite:///{directory}/helexa.db")
        flushes = booked(store, count)
        store.close()
        size = (Path(directory) / "helexa.db").stat().st_size / 2**20
        print(
            f"{count:,} rows, {size:,.0f} MiB; a thousand rows take {1e3 * statistics.median(flushes):.1f} ms (median)"
        )
        for name in ("windows made anew", "windows known"):
            until, first = trio.run(_started, Path(directory), who(1))
            print(f"started in {until:.3f} s; the first request, {name}: {first:.3f} s more")


def crowd(clients: int, kills: int, rounds: int, seed: int) -> int:
    from budget_crowds import CROWDED, TWENTY, crowd_before, press, wrong_with
    from budget_parts import make_box, make_gateway
    from budget_stress import summary

    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        box = make_box(Path(directory) / "box").start()
        for number in range(seed, seed + rounds):
            gateway, begin = make_gateway(Path(directory) / str(number), box, TWENTY, cortex=CROWDED), perf_counter()
            found = crowd_before([gateway.start()], clients, number)
            try:
                trio.run(press, found, kills, number)
                gateway.stop()
            finally:
                gateway.end()
            wrong += (problems := wrong_with(found))
            ends = ", ".join(f"{count} {end}" for end, count in sorted(summary(found.got).items()))
            print(f"seed {number}: {len(problems)} wrong; {ends}; {found.looks} looks; {perf_counter() - begin:.0f} s")
        box.stop()
    print("\n".join(wrong[:20]))
    return int(bool(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cost").add_argument("count", type=int, nargs="?", default=20_000)
    commands.add_parser("rows").add_argument("count", type=int, nargs="?", default=1_000_000)
    crowded = commands.add_parser("crowd")
    for name, default in (("clients", 2000), ("kills", 20), ("rounds", 1), ("seed", 1)):
        crowded.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    command = {"cost": cost, "rows": rows, "crowd": crowd}[options.pop("command")]
    sys.exit(command(**options))


if __name__ == "__main__":
    main()
