"""The ledger while its database or its directory is away, slow, or deaf; and when its loop crashes."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from http_parts import until
from ledger_parts import FREE, Away, Clock, Settings, ask, booked, leased, payer_of, refused, use
from structlog.testing import capture_logs

from actors import bookkeeper
from actors import ledger as module
from actors.ledger import Ledger
from actors.supervisor import Supervisor
from config import Budget, Cortex, Duration, RestartPolicy
from helexa.cortex.ledger.rows import Leases, Want
from helexa.database import StoreError
from helexa.wire.errors import ApiError

LIMITED = payer_of(Budget(tokens=1000))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FLUSH_SECONDS", 0.002), ("TICK_SECONDS", 0.005), ("OTHERS_SECONDS", 0.005)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(bookkeeper, "RETRY_SECONDS", 0.005)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def store(path: Path) -> Away:
    return Away(f"sqlite:///{path}")


@pytest.fixture
def ledger(store: Away, tmp_path: Path, settings: Settings, clock: Clock) -> Ledger:
    return Ledger(store, tmp_path / "ledger", settings, clock)


@pytest.fixture
async def running(nursery: trio.Nursery, ledger: Ledger) -> Ledger:
    await nursery.start(ledger.run)
    return ledger


async def known_away(ledger: Ledger, store: Away) -> None:
    """Have the ledger find out that its database is away."""
    store.away = True
    with pytest.raises(module.ApiError):
        await ledger.reserve(payer_of(Budget(tokens=10), key="nobody"), ask(1, 1))
    assert ledger.figures().trouble == "it is away"


async def test_who_needs_the_database_is_refused_and_all_others_are_served(running: Ledger, store: Away) -> None:
    use(await running.reserve(LIMITED, ask()), 1, 1)
    await known_away(running, store)
    other = payer_of(Budget(tokens=1000), key="k2")
    error = await refused(running, other, ask())
    assert (error.status, error.code, error.retry_after) == (503, "service_unavailable", 5)
    assert "cannot be found out right now" in error.message
    use(await running.reserve(LIMITED, ask()), 1, 1)
    use(await running.reserve(payer_of(key="k3"), ask()), 1, 1)
    with pytest.raises(module.ApiError, match="cannot be found out"):
        await running.spending(LIMITED.limits)
    store.away = False
    await until(lambda: running.figures().trouble is None)
    use(await running.reserve(other, ask()), 1, 1)


async def test_if_told_so_requests_are_served_all_the_same_and_booked_later(
    running: Ledger, store: Away, settings: Settings, path: Path, clock: Clock
) -> None:
    await known_away(running, store)
    settings.cortex = Cortex(database_away="serve")
    for _ in range(10):
        charge = await running.reserve(LIMITED, ask())
        assert (charge.total, charge.full) == (None, True)
        use(charge, 100, 50)
    store.away = False
    await until(lambda: booked(path) == {"name-k1": 1500})
    await until(lambda: running.figures().trouble is None)
    assert (await refused(running, LIMITED, ask())).code == "insufficient_quota"
    assert await running.spending(LIMITED.limits) == [(LIMITED.limits[0], 1500, 0)]


async def test_what_cannot_be_booked_goes_into_the_journal_and_frees_its_slots(
    running: Ledger, store: Away, path: Path, tmp_path: Path
) -> None:
    first = await running.reserve(LIMITED, ask())
    await known_away(running, store)
    use(first, 10, 5)
    for _ in range(3):
        use(await running.reserve(LIMITED, ask()), 10, 5)
    await until(lambda: running.figures().journal == 4)
    slots = running._keeper.slots
    assert slots is not None
    await until(lambda: slots.in_use == 0)
    assert running.figures().open == 0
    assert (await running.reserve(LIMITED, ask(700, 240))).full, "what the journal has was not spent again"
    store.away = False
    await until(lambda: booked(path) == {"name-k1": 60})
    await until(lambda: running.figures().journal == 0)
    assert list((tmp_path / "ledger").glob("*.journal")) == []


async def test_a_journal_is_booked_by_the_next_process_and_its_leases_are_gone(
    ledger: Ledger, store: Away, path: Path, settings: Settings, clock: Clock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        charge = await ledger.reserve(LIMITED, ask())
        store.away = True
        use(charge, 10, 5)
        await until(lambda: ledger.figures().journal == 1)
        nursery.cancel_scope.cancel()
    assert (booked(path), leased(path, *LIMITED.limits)) == ({}, [(0, 1000)])
    store.away = False
    async with trio.open_nursery() as nursery:
        again = Ledger(store, path.parent / "ledger", settings, clock)
        await nursery.start(again.run)
        assert (booked(path), leased(path, *LIMITED.limits)) == ({"name-k1": 15}, [(15, 0)])
        nursery.cancel_scope.cancel()


async def test_a_line_of_the_journal_that_somebody_has_changed_is_kept_aside_and_all_others_are_booked(
    ledger: Ledger, store: Away, path: Path, nursery: trio.Nursery
) -> None:
    async with trio.open_nursery() as first:
        await first.start(ledger.run)
        store.away = True
        for _ in range(2):
            use(await ledger.reserve(payer_of(), ask()), 1, 2)
        first.cancel_scope.cancel()
    (journal,) = (path.parent / "ledger").glob("*.journal")
    journal.write_bytes(b"oops\n" + journal.read_bytes())
    store.away = False
    with capture_logs() as logs:
        await nursery.start(ledger.run)
        await until(lambda: ledger.figures().journal == 0)
    assert booked(path) == {"name-k1": 6}
    assert [each["lines"] for each in logs if each["event"] == "ledger.journal_unreadable"] == [1]
    assert journal.with_suffix(".unreadable").read_bytes() == b"oops\n"


async def test_a_database_that_is_away_at_the_start_is_waited_for_and_nothing_is_lost(
    ledger: Ledger, store: Away, path: Path, nursery: trio.Nursery
) -> None:
    store.away = True
    await nursery.start(ledger.run)
    assert (await refused(ledger, LIMITED, ask())).status == 503
    use(await ledger.reserve(payer_of(), ask()), 2, 3)
    await until(lambda: ledger.figures().journal == 1)
    store.away = False
    await until(lambda: booked(path) == {"name-k1": 5})
    await until(lambda: ledger.figures().trouble is None)
    use(await ledger.reserve(LIMITED, ask()), 1, 1)


async def test_what_was_booked_though_the_answer_got_lost_is_booked_once(
    running: Ledger, store: Away, path: Path, clock: Clock
) -> None:
    charge = await running.reserve(LIMITED, ask())
    store.deaf = True
    use(charge, 10, 5)
    await until(lambda: running.figures().journal == 1)
    store.deaf = False
    await until(lambda: running.figures().journal == 0)
    assert booked(path) == {"name-k1": 15}
    assert await running.spending(LIMITED.limits) == [(LIMITED.limits[0], 15, 0)]
    charge = await running.reserve(LIMITED, ask(900, 85))
    assert charge.full
    charge.settle()
    clock.now += 2
    await until(lambda: leased(path, *LIMITED.limits) == [(15, 0)])


async def test_a_lease_whose_answer_got_lost_is_found_again(
    running: Ledger, store: Away, path: Path, clock: Clock
) -> None:
    store.deaf = True
    assert (await refused(running, LIMITED, ask())).status == 503
    store.deaf = False
    await until(lambda: running.figures().trouble is None)
    use(await running.reserve(LIMITED, ask(900, 100)), 1, 1)
    clock.now += 2
    await until(lambda: leased(path, *LIMITED.limits) == [(2, 0)])


async def test_a_lease_that_nobody_heard_of_does_not_stay(running: Ledger, store: Away, path: Path) -> None:
    lease = store.lease

    def lost(gateway: str, wants: Sequence[Want], now: float) -> Leases:
        lease(gateway, wants, now)
        raise StoreError("its answer got lost")

    store.lease = lost  # type: ignore[method-assign]
    assert (await refused(running, LIMITED, ask())).status == 503
    store.lease = lease  # type: ignore[method-assign]
    await until(lambda: leased(path, *LIMITED.limits) == [(0, 0)])


async def test_a_database_that_hangs_is_waited_for_no_longer_than_a_while(
    store: Away, running: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, lease = threading.Event(), store.lease

    def slow(gateway: str, wants: Sequence[Want], now: float) -> Leases:
        gate.wait(10)
        return lease(gateway, wants, now)

    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(store, "lease", slow)
        assert (await refused(running, LIMITED, ask())).status == 503
        assert (await refused(running, LIMITED, ask())).status == 503
        gate.set()
    monkeypatch.setattr(module, "ANSWER_SECONDS", 5)
    charge = await running.reserve(LIMITED, ask(900, 100))
    assert charge.full, "what came too late for one is there for the other"
    charge.settle()


async def test_without_a_directory_only_who_has_no_budget_is_served_until_it_is_there(
    store: Away, path: Path, settings: Settings, clock: Clock, nursery: trio.Nursery
) -> None:
    blocked = path.parent / "blocked"
    blocked.write_text("a file")
    ledger = Ledger(store, blocked / "ledger", settings, clock)
    with capture_logs() as logs:
        await nursery.start(ledger.run)
        assert (await refused(ledger, LIMITED, ask())).status == 503
        use(await ledger.reserve(payer_of(), ask()), 1, 2)
    told = [each for each in logs if each["event"] == "ledger.files_away"]
    assert [each["error"].endswith("blocked/ledger: not a directory") for each in told] == [True], "and said once"
    blocked.unlink()
    await until(lambda: ledger._keeper.slots is not None)
    await until(lambda: booked(path) == {"name-k1": 3})
    use(await ledger.reserve(LIMITED, ask()), 1, 1)


async def test_without_a_free_slot_who_has_a_budget_is_refused(
    running: Ledger, monkeypatch: pytest.MonkeyPatch, settings: Settings, path: Path
) -> None:
    slots = running._keeper.slots
    assert slots is not None

    def full() -> Any:
        raise bookkeeper.SlotFileError("no space left on device")

    use(await running.reserve(LIMITED, ask()), 1, 1)
    monkeypatch.setattr(slots, "take", full)
    charge = await running.reserve(LIMITED, ask(900, 90))
    with pytest.raises(ApiError, match="cannot be recorded") as raised:
        charge.sent("n1", FREE)
    assert (raised.value.status, raised.value.code) == (503, "service_unavailable")
    charge.settle()
    use(await running.reserve(payer_of(key="k2"), ask()), 1, 1)
    settings.cortex = Cortex(database_away="serve")
    use(await running.reserve(LIMITED, ask(900, 90)), 1, 1)
    await until(lambda: booked(path) == {"name-k1": 4, "name-k2": 2})


async def test_a_journal_that_cannot_be_written_keeps_what_it_should_have_had(
    running: Ledger, store: Away, path: Path, tmp_path: Path
) -> None:
    charge = await running.reserve(LIMITED, ask())
    await known_away(running, store)
    assert running._keeper._journal is not None
    journal = running._keeper._journal.path
    journal.mkdir()
    use(charge, 4, 5)
    await until(lambda: running._due.flush > trio.current_time())
    assert running.figures().journal == 0
    store.away = False
    await until(lambda: booked(path) == {"name-k1": 9})
    assert running.figures().open == 0


async def test_a_crash_of_the_loop_loses_nothing(
    store: Away, ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    crashes = iter((True, True))
    lease = store.lease

    def crashing(gateway: str, wants: Sequence[Want], now: float) -> Leases:
        if wants and next(crashes, False):
            raise RuntimeError("a bug")
        return lease(gateway, wants, now)

    monkeypatch.setattr(store, "lease", crashing)
    supervisor = Supervisor("root")
    await nursery.start(supervisor.run)
    await supervisor.start(ledger, RestartPolicy(backoff=Duration(0.001)))
    use(await ledger.reserve(payer_of(), ask()), 1, 2)
    assert (await refused(ledger, LIMITED, ask())).status == 503
    use(await ledger.reserve(payer_of(), ask()), 3, 4)
    assert (await refused(ledger, LIMITED, ask())).status == 503
    use(await ledger.reserve(LIMITED, ask()), 5, 6)
    await until(lambda: booked(path) == {"name-k1": 21})


async def test_at_a_stop_what_is_still_open_keeps_its_part_of_the_lease(
    ledger: Ledger, path: Path, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        charge = await ledger.reserve(LIMITED, ask())
        charge.sent("n", FREE)
        nursery.cancel_scope.cancel()
    assert leased(path, *LIMITED.limits) == [(0, 150)]
    charge.deliver(1, 1, 0)
    charge.settle()


async def test_usage_beyond_what_was_set_aside_is_booked_and_said(running: Ledger, path: Path) -> None:
    charge = await running.reserve(LIMITED, ask())
    with capture_logs() as logs:
        use(charge, 100, 2000)
    assert [each["event"] for each in logs] == ["ledger.used_more"]
    await until(lambda: booked(path) == {"name-k1": 2100})
    assert (await refused(running, LIMITED, ask())).code == "insufficient_quota"
    assert await running.spending(LIMITED.limits) == [(LIMITED.limits[0], 2100, 0)]
