"""What keys have used, what is left to them, and who waits, as it is scraped."""

from typing import get_args

import trio
from attrs import evolve
from budget_figures import BOOKS, DAY, Books, OneLimit
from prometheus_client import CollectorRegistry
from scrapes import scraped, value
from trio.testing import wait_all_tasks_blocked

from config import Cortex
from helexa.cortex.access.auth import Key
from helexa.cortex.exchange.admission import Admission, Reason
from helexa.cortex.ledger.limits import PICODOLLARS, Amounts, Limit
from helexa.cortex.telemetry.metrics import OTHER, Few
from helexa.cortex.telemetry.metrics_budgets import BudgetCollector

KEY = Key("alice", "lab", frozenset(), id="1")


def registry_of(books: Books | None = BOOKS, admission: Admission | None = None, keys: int = 9) -> CollectorRegistry:
    registry, turns = CollectorRegistry(), admission or Admission(Cortex)
    ledger = None if books is None else lambda: books
    registry.register(BudgetCollector(turns.figures, ledger, Few(keys)))
    return registry


async def test_what_was_booked_is_told_by_the_keys_name() -> None:
    registry = registry_of()
    assert await value(registry, "helexa_ledger_tokens_total", key="alice") == 500
    assert await value(registry, "helexa_ledger_requests_total", key="alice") == 3
    assert await value(registry, "helexa_ledger_cost_usd_total", key="alice") == 0.25


async def test_what_is_left_is_told_in_units_and_as_a_part() -> None:
    registry = registry_of()
    tokens = {"kind": "key", "owner": "alice", "unit": "tokens", "period": "86400s"}
    dollars = {"kind": "account", "owner": "lab", "unit": "usd", "period": "forever"}
    assert await value(registry, "helexa_budget_remaining", **tokens) == 400
    assert await value(registry, "helexa_budget_remaining_ratio", **tokens) == 0.4
    assert await value(registry, "helexa_budget_remaining", **dollars) == 5
    assert await value(registry, "helexa_budget_remaining_ratio", **dollars) == 0.25


async def test_a_budget_of_nothing_has_nothing_left_and_is_not_divided_by() -> None:
    books = evolve(BOOKS, limits=(OneLimit(Limit("key:1", "requests", 0), "alice", 0),))
    at = {"kind": "key", "owner": "alice", "unit": "requests", "period": "forever"}
    assert await value(registry_of(books), "helexa_budget_remaining_ratio", **at) == 0


async def test_a_budget_that_is_overdrawn_says_by_how_much() -> None:
    books = evolve(BOOKS, limits=(OneLimit(Limit("key:1", "tokens", 100), "alice", -50),))
    at = {"kind": "key", "owner": "alice", "unit": "tokens", "period": "forever"}
    assert await value(registry_of(books), "helexa_budget_remaining", **at) == -50


async def test_how_the_books_are_kept() -> None:
    registry = registry_of()
    assert await value(registry, "helexa_ledger_open_charges") == 2
    assert await value(registry, "helexa_ledger_journal_rows") == 7
    assert await value(registry, "helexa_ledger_database_up") == 1
    assert await value(registry_of(evolve(BOOKS, trouble="it is locked")), "helexa_ledger_database_up") == 0


async def test_more_keys_than_there_are_labels_for_are_one_and_add_up() -> None:
    spent = {f"k{n}": Amounts(10 * n, 1, PICODOLLARS) for n in range(5)}
    registry = registry_of(evolve(BOOKS, spent=spent), keys=2)
    assert await value(registry, "helexa_ledger_tokens_total", key="k1") == 10
    assert await value(registry, "helexa_ledger_tokens_total", key=OTHER) == 20 + 30 + 40
    assert await value(registry, "helexa_ledger_cost_usd_total", key=OTHER) == 3


async def test_of_budgets_that_share_a_label_the_one_with_the_least_left_is_told() -> None:
    limits = tuple(
        OneLimit(Limit(f"key:{n}", "tokens", 100, DAY), "alice", left) for n, left in enumerate((60, 20, 40))
    )
    registry = registry_of(evolve(BOOKS, limits=limits))
    (sample,) = (await scraped(registry))["helexa_budget_remaining"].samples
    assert sample.value == 20


async def test_hundreds_of_budgets_do_not_spoil_the_scrape() -> None:
    limits = tuple(OneLimit(Limit(f"key:{n}", "tokens", 100), f"name-{n}", n) for n in range(300))
    samples = (await scraped(registry_of(evolve(BOOKS, limits=limits))))["helexa_budget_remaining"].samples
    assert len(samples) == 101
    assert len({sample.labels["owner"] for sample in samples}) == len(samples)


async def test_a_gateway_without_a_ledger_tells_of_its_turns_alone() -> None:
    found = await scraped(registry_of(None))
    assert found
    assert all(name.startswith("helexa_admission_") for name in found)


async def test_turns_are_told_as_the_admission_counts_them() -> None:
    admission = Admission(lambda: Cortex(max_in_flight=1, max_queue=1))
    registry = registry_of(admission=admission)
    async with trio.open_nursery() as nursery, admission.place(KEY):
        nursery.start_soon(_take_a_turn, admission)
        await wait_all_tasks_blocked()
        assert await value(registry, "helexa_admission_in_flight") == 1
        assert await value(registry, "helexa_admission_waiting") == 1
    assert await value(registry, "helexa_admission_in_flight") == 0
    assert await value(registry, "helexa_admission_waits_total") == 1
    seconds = await value(registry, "helexa_admission_wait_seconds_total")
    assert seconds is not None
    assert seconds > 0
    metric = (await scraped(registry))["helexa_admission_turned_away"]
    assert {sample.labels["reason"]: sample.value for sample in metric.samples} == dict.fromkeys(get_args(Reason), 0)


async def _take_a_turn(admission: Admission) -> None:
    async with admission.place(KEY):
        pass
