"""The ledger: what is let in, what is refused and why, and what is booked."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from http_parts import until
from ledger_parts import NOW, Away, Clock, Settings, ask, booked, leased, payer_of, refused, use

from actors import ledger as module
from actors.ledger import Ledger
from config import Budget, Duration
from helexa.cortex.ledger.limits import PICODOLLARS, Amounts, Prices


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


async def stopped(ledger: Ledger, work: Callable[[], Awaitable[None]]) -> None:
    """Have a ledger run for a while, and stop."""
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        await work()
        nursery.cancel_scope.cancel()


# One gateway


async def test_what_was_used_is_booked_and_nothing_is_leased_after_a_stop(ledger: Ledger, path: Path) -> None:
    whose = payer_of(Budget(tokens=1000), shared=[Budget(usd=1.0)])

    async def work() -> None:
        use(await ledger.reserve(whose, ask(prices=Prices(7, 9))), 30, 20, Prices(7, 9))
        use(await ledger.reserve(whose, ask()), 1, 1)

    await stopped(ledger, work)
    assert booked(path) == {"name-k1": 52}
    assert leased(path, *whose.limits) == [(52, 0), (30 * 7 + 20 * 9, 0)]


async def test_a_request_that_was_never_sent_costs_nothing(running: Ledger, path: Path) -> None:
    whose = payer_of(Budget(requests=1))
    for _ in range(3):
        (await running.reserve(whose, ask())).settle()
    charge = await running.reserve(whose, ask())
    charge.sent("n", Prices())
    charge.settle()
    charge.settle()
    charge.deliver(5, 5, 0)
    assert (await refused(running, whose, ask())).code == "insufficient_quota"
    await until(lambda: booked(path) == {"name-k1": 0})


async def test_a_request_that_was_sent_and_not_served_costs_nothing(running: Ledger, path: Path) -> None:
    whose = payer_of(Budget(requests=1))
    for _ in range(3):
        charge = await running.reserve(whose, ask())
        charge.sent("n", Prices())
        charge.abandon()
        charge.settle()
    use(await running.reserve(whose, ask()), 5, 6)
    await until(lambda: booked(path) == {"name-k1": 11})


async def test_where_the_lease_suffices_no_other_task_runs(running: Ledger) -> None:
    whose = payer_of(Budget(tokens=10_000), Budget(requests=100, per=Duration(60.0)))
    use(await running.reserve(whose, ask()), 1, 1)
    coroutine = running.reserve(whose, ask())
    with pytest.raises(StopIteration) as returned:
        coroutine.send(None)
    use(returned.value.value, 1, 1)


async def test_a_key_without_budgets_is_booked_and_never_waits(running: Ledger, path: Path, store: Away) -> None:
    coroutine = running.reserve(payer_of(), ask())
    with pytest.raises(StopIteration) as returned:
        coroutine.send(None)
    charge = returned.value.value
    assert (charge.total, charge.output, charge.full) == (None, None, True)
    use(charge, 5, 6)
    await until(lambda: booked(path) == {"name-k1": 11})


async def test_a_budget_of_requests_says_nothing_of_tokens(running: Ledger) -> None:
    charge = await running.reserve(payer_of(Budget(requests=5)), ask())
    assert (charge.total, charge.output, charge.full) == (None, None, True)
    charge.settle()


async def test_a_request_that_says_no_length_gets_what_is_left(running: Ledger) -> None:
    whose = payer_of(Budget(tokens=130))
    charge = await running.reserve(whose, ask(limited=False))
    assert (charge.total, charge.output, charge.full) == (130, 50, False)
    charge.settle()


async def test_a_prompt_whose_bound_is_too_long_is_left_to_who_counts_it(running: Ledger) -> None:
    whose = payer_of(Budget(tokens=80))
    charge = await running.reserve(whose, ask(limited=True))
    assert (charge.total, charge.output, charge.full) == (80, 50, False)
    error = charge.refusal()
    assert (error.status, error.code) == (429, "insufficient_quota")
    assert "too small for this request" in error.message
    charge.settle()


@pytest.mark.parametrize(
    ("budget", "code", "retry", "sentence"),
    [
        (Budget(tokens=0), "insufficient_quota", None, "The budget of 0 tokens of the key 'name-k1' is too small"),
        (Budget(tokens=61), "insufficient_quota", None, "too small for this request, which needs 62 tokens at least"),
        (Budget(requests=0), "insufficient_quota", None, "which needs 1 request at least"),
        (Budget(usd=0.000001), "insufficient_quota", None, r"The budget of $0.000001 of"),
        (Budget(tokens=10, per=Duration(60.0)), "insufficient_quota", None, "10 tokens per 1m of the key"),
    ],
)
async def test_what_a_budget_never_allows_is_refused_for_good(
    running: Ledger, budget: Budget, code: str, retry: int | None, sentence: str
) -> None:
    error = await refused(running, payer_of(budget), ask(prices=Prices(10**6, 10**6)))
    assert (error.status, error.code, error.retry_after) == (429, code, retry)
    assert sentence in error.message


async def test_a_balance_that_is_used_up_is_said_to_be(running: Ledger) -> None:
    whose = payer_of(Budget(tokens=200), Budget(requests=9))
    use(await running.reserve(whose, ask()), 100, 50)
    error = await refused(running, whose, ask())
    assert (error.status, error.type, error.code) == (429, "insufficient_quota", "insufficient_quota")
    assert "is used up: 150 tokens were used" in error.message


async def test_a_window_that_is_used_up_says_when_it_is_not(running: Ledger, clock: Clock, path: Path) -> None:
    whose = payer_of(Budget(requests=2, per=Duration(60.0)))
    use(await running.reserve(whose, ask()), 1, 1)
    clock.now += 30
    use(await running.reserve(whose, ask()), 1, 1)
    await until(lambda: running.figures().open == 0 and booked(path) == {"name-k1": 4})
    await until(lambda: not running._keeper.settled)
    clock.now += 2
    error = await refused(running, whose, ask())
    assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert error.retry_after is not None
    clock.now += error.retry_after - 1.5
    assert (await refused(running, whose, ask())).retry_after in (1, 2)
    clock.now += 1.5
    use(await running.reserve(whose, ask()), 1, 1)
    assert (await refused(running, whose, ask())).code == "rate_limit_exceeded"


async def test_what_is_only_set_aside_may_be_free_again_soon(running: Ledger) -> None:
    whose = payer_of(Budget(tokens=150))
    charge = await running.reserve(whose, ask())
    error = await refused(running, whose, ask())
    assert (error.code, error.retry_after) == ("rate_limit_exceeded", 2)
    assert "set aside for requests that are being served" in error.message
    charge.settle()
    use(await running.reserve(whose, ask()), 1, 1)


async def test_an_accounts_budget_holds_for_all_its_keys(running: Ledger) -> None:
    one, two = (payer_of(key=key, shared=[Budget(tokens=200)]) for key in ("k1", "k2"))
    use(await running.reserve(one, ask()), 100, 50)
    error = await refused(running, two, ask())
    assert "the account 'team'" in error.message
    assert error.code == "insufficient_quota"


async def test_a_cap_that_is_changed_holds_at_once(running: Ledger) -> None:
    big, small = payer_of(Budget(tokens=10_000)), payer_of(Budget(tokens=160))
    charge = await running.reserve(big, ask())
    assert (await refused(running, small, ask())).code == "rate_limit_exceeded"
    use(charge, 100, 50)
    assert (await refused(running, small, ask())).code == "insufficient_quota"
    use(await running.reserve(big, ask()), 1, 1)


async def test_of_many_requests_at_once_only_those_are_served_that_the_budget_allows(
    ledger: Ledger, path: Path
) -> None:
    payers = [payer_of(Budget(tokens=2000), key=f"k{n}", shared=[Budget(requests=60)]) for n in range(5)]
    served: list[int] = []

    async def one(number: int) -> None:
        try:
            charge = await ledger.reserve(payers[number % 5], ask())
        except module.ApiError:
            return
        charge.sent("n", Prices())
        for part in range(5):
            await trio.lowlevel.checkpoint()
            charge.deliver(100, part * 10, 0)
        charge.settle()
        served.append(140)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, number)

    await stopped(ledger, work)
    assert len(served) == 60
    assert sum(booked(path).values()) == sum(served)
    (limit,) = (limit for limit in payers[0].limits if limit.unit == "requests")
    assert leased(path, limit) == [(60, 0)]


async def test_a_request_that_is_given_up_while_the_database_is_asked_sets_nothing_aside(
    running: Ledger, nursery: trio.Nursery
) -> None:
    whose = payer_of(Budget(tokens=150))
    with trio.CancelScope() as scope:
        scope.cancel()
        await running.reserve(whose, ask())
    charge = await running.reserve(whose, ask())
    assert charge.full
    use(charge, 100, 50)


async def test_headers_tell_what_is_left_of_the_tightest_limits(running: Ledger) -> None:
    whose = payer_of(
        Budget(tokens=1000), Budget(tokens=500, per=Duration(60.0)), Budget(requests=3, per=Duration(3600.0))
    )
    assert running.headers(whose) == [], "nothing is known yet"
    charge = await running.reserve(whose, ask())
    assert dict(running.headers(whose)) == {
        b"x-ratelimit-limit-requests": b"3",
        b"x-ratelimit-remaining-requests": b"2",
        b"x-ratelimit-reset-requests": b"1h1m0s",
        b"x-ratelimit-limit-tokens": b"500",
        b"x-ratelimit-remaining-tokens": b"350",
        b"x-ratelimit-reset-tokens": b"1m1s",
    }
    use(charge, 10, 5)
    assert dict(running.headers(whose))[b"x-ratelimit-remaining-tokens"] == b"485"
    assert running.headers(payer_of()) == []


async def test_spending_and_figures_tell_what_is_spent_and_what_is_set_aside(running: Ledger) -> None:
    whose = payer_of(Budget(tokens=1000), shared=[Budget(usd=1.0)])
    use(await running.reserve(whose, ask(prices=Prices(2, 2))), 10, 5, Prices(2, 2))
    charge = await running.reserve(whose, ask(prices=Prices(2, 2)))
    charge.sent("n", Prices(2, 2))
    tokens, dollars = whose.limits
    assert await running.spending(whose.limits) == [(tokens, 15, 150), (dollars, 30, 300)]
    figures = running.figures()
    assert (figures.open, figures.journal, figures.trouble) == (1, 0, None)
    assert figures.spent == {"name-k1": Amounts(15, 1, 30)}
    assert [(each.name, each.left) for each in figures.limits] == [
        ("name-k1", 835),
        ("team", PICODOLLARS - 330),
    ]
    charge.abandon()
    assert await running.spending(whose.limits) == [(tokens, 15, 0), (dollars, 30, 0)]


async def test_what_is_idle_is_given_back(running: Ledger, path: Path, clock: Clock) -> None:
    whose = payer_of(Budget(tokens=1000))
    charge = await running.reserve(whose, ask())
    assert leased(path, *whose.limits) == [(0, 1000)]
    clock.now += 2
    await until(lambda: leased(path, *whose.limits) == [(0, 150)])
    use(charge, 100, 20)
    clock.now += 2
    await until(lambda: leased(path, *whose.limits) == [(120, 0)])


async def test_usage_is_summed(running: Ledger) -> None:
    use(await running.reserve(payer_of(), ask()), 10, 5)
    await until(lambda: not running._keeper.settled)
    (sums,) = await running.usage(0, NOW + 1, "account", 10)
    assert (sums.name, sums.requests, sums.prompt) == ("team", 1, 10)
