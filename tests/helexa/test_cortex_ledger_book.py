"""Leases in hand: corner cases that the state machine meets too seldom."""

from attrs import evolve

from helexa.cortex.ledger.book import FORGET_SECONDS, Book, Held, Lacking, Refused, totals
from helexa.cortex.ledger.limits import Amounts, Limit, Payer
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.rows import Leased

NOW = 1000.0
LIMIT = Limit("key:k", "tokens", 1000)
ASK = Ask("r", "/", "m", 100, 50, limited=True)


def payer(limit: Limit = LIMIT) -> Payer:
    return Payer("key:k", "k", "a", (limit,))


def leased(granted: int, held: int | None = None, limit: Limit = LIMIT, **settings: int) -> Leased:
    known = {"spent": 0, "others": 0, "room": 0, **settings}
    return Leased(limit, granted if held is None else held, granted, **known)


def book_with(lease: int) -> Book:
    book = Book()
    assert isinstance(book.reserve(payer(), ASK, NOW), Lacking)
    book.leased([leased(lease)], NOW)
    return book


def reserved(book: Book, limit: Limit = LIMIT) -> Held:
    held = book.reserve(payer(limit), ASK, NOW)
    assert isinstance(held, Held)
    return held


def test_the_database_is_asked_for_what_all_who_wait_need_together() -> None:
    book = book_with(100)
    lacking = [(Lacking(tuple(book.purses)), ASK) for _ in range(3)]
    later = NOW + 2
    (want,) = book.wants(lacking, later)
    assert (want.have, want.need, want.wish) == (100, 350, None)
    book.leased([leased(0, held=100, room=60)], later)
    assert isinstance(book.reserve(payer(), ASK, later), Lacking)
    (want,) = book.wants(lacking, later)
    assert want.need == 60, "it has no more than that"


def test_once_there_is_no_more_nobody_asks_for_a_while() -> None:
    book = book_with(10)
    assert isinstance(book.reserve(payer(), ASK, NOW + 0.9), Refused)
    assert isinstance(book.reserve(payer(), ASK, NOW + 1.0), Lacking)
    assert isinstance(book.reserve(payer(), ASK, NOW - 9.0), Lacking), "the clock was set back"


def test_while_others_hold_something_it_is_asked_again_sooner() -> None:
    book = book_with(10)
    book.leased([leased(0, held=10, others=500)], NOW)
    found = book.reserve(payer(), ASK, NOW + 0.2)
    assert isinstance(found, Refused)
    assert found.by_others
    assert isinstance(book.reserve(payer(), ASK, NOW + 0.25), Lacking)


def test_what_was_granted_under_a_higher_cap_is_not_used_under_a_lower_one() -> None:
    book = Book()
    lower = evolve(LIMIT, cap=200)
    assert isinstance(book.reserve(payer(), ASK, NOW), Lacking)
    assert isinstance(book.reserve(payer(lower), ASK, NOW), Lacking)
    book.leased([leased(1000)], NOW)
    assert isinstance(book.reserve(payer(lower), ASK, NOW), Lacking)
    assert book.keep({}) == {LIMIT.id: 0}, "and the database hears of it"


def test_a_cap_that_is_lowered_while_usage_is_booked_takes_nothing_twice() -> None:
    book = book_with(1000)
    held = reserved(book)
    book.settle(held, payer(), Amounts(120, 1, 0))
    used = totals([(payer().subjects, Amounts(120, 1, 0))])
    keep = book.keep(used)
    assert keep == {LIMIT.id: 880}
    book.reserve(payer(evolve(LIMIT, cap=500)), ASK, NOW)
    book.flushed(used, keep, keep)
    (purse,) = book.purses
    assert (purse.lease, purse.free, purse.pending) == (0, 0, [0, 0, 0])
    assert book.keep({}) == {LIMIT.id: 0}


def test_a_lease_that_the_database_has_dropped_is_gone() -> None:
    book = book_with(1000)
    book.owe_all()
    keep = book.keep({})
    book.flushed({}, keep, {})
    (purse,) = book.purses
    assert purse.lease == 0
    assert not book.owes


def test_usage_beyond_the_lease_leaves_nothing_and_is_asked_for_first() -> None:
    book = book_with(200)
    held = reserved(book)
    book.settle(held, payer(), Amounts(500, 1, 0))
    (purse,) = book.purses
    assert purse.free == -300
    found = book.reserve(payer(), ASK, NOW + 2)
    assert isinstance(found, Lacking)
    assert book.wants([(found, ASK)], NOW + 2)[0].need == 450
    used = totals([(payer().subjects, Amounts(500, 1, 0))])
    book.flushed(used, book.keep(used), {})
    assert (purse.lease, purse.free, purse.spent) == (0, 0, 500)


def test_a_busy_gateway_among_others_gives_back_what_it_did_not_touch() -> None:
    book = book_with(1000)
    book.alone = False
    held = reserved(book)
    book.release(held)
    book.give_back(NOW)
    (purse,) = book.purses
    assert purse.lease == 150, "what one request needed at its most"
    book.alone = True
    book.give_back(NOW + 0.5)
    assert purse.lease == 150


def test_what_nobody_asks_for_is_forgotten_unless_something_is_left_to_do() -> None:
    book = book_with(1000)
    held = reserved(book)
    later = NOW + FORGET_SECONDS
    book.forget(later)
    assert list(book.purses), "a request is under way"
    book.settle(held, payer(), Amounts(1, 1, 0))
    book.give_back(later)
    book.forget(later)
    assert list(book.purses), "usage is not booked yet"
    used = totals([(payer().subjects, Amounts(1, 1, 0))])
    book.flushed(used, book.keep(used), {})
    book.forget(later)
    assert list(book.purses) == []
    assert book._subjects == {}
    assert book.find(LIMIT) is None


def test_usage_from_before_a_limit_was_made_counts_against_its_lease_once() -> None:
    book = Book()
    free = Payer("key:k", "k", "a")
    held = book.reserve(free, ASK, NOW)
    assert isinstance(held, Held)
    book.settle(held, free, Amounts(100, 1, 0))
    assert isinstance(book.reserve(payer(), ASK, NOW), Lacking)
    book.leased([leased(300)], NOW)
    (purse,) = book.purses
    assert purse.free == 200
    used = totals([(payer().subjects, Amounts(100, 1, 0))])
    book.flushed(used, book.keep(used), book.keep(used))
    assert (purse.lease, purse.free) == (200, 200)
