"""The ledger's database beside a model of it that keeps nothing but a list of all that was ever used."""

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_stores import NOW, row

from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import LimitId, Row, Want
from helexa.cortex.ledger.shares import Standing, share
from helexa.cortex.ledger.store import DEAD_SECONDS, UsageStore

AMOUNTS = st.integers(0, 10**6)
GATEWAYS = st.sampled_from(("g1", "g2", "g3"))
REQUESTS = st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 400))
"""A key, the seconds that it is booked late, tokens."""


@given(
    st.builds(
        Want, st.builds(Limit, st.just("key:a"), st.just("tokens"), AMOUNTS), AMOUNTS, AMOUNTS, st.none() | AMOUNTS
    ),
    st.builds(Standing, AMOUNTS, st.just(()), AMOUNTS, AMOUNTS, st.booleans()),
)
def test_a_share_never_leads_over_the_cap_and_is_of_use_or_nothing(want: Want, standing: Standing) -> None:
    found = share(want, standing)
    before, after = (standing.spent + standing.others + own for own in (standing.own, found.held))
    sure = min(want.have, standing.own)
    assert after <= max(want.limit.cap, standing.spent + standing.others + sure)
    assert sure <= found.held
    assert found.granted == 0 or want.need <= found.granted
    assert want.wish is None or found.granted <= max(want.need, want.wish)
    assert found.held <= want.have + found.granted
    assert found.room == max(0, want.limit.cap - after)
    if want.have <= standing.own and want.limit.cap - before + standing.own - sure >= want.need:
        assert found.granted >= want.need, "there was enough"


def limits_of(caps: tuple[int, int, int]) -> list[Limit]:
    small, large, money = caps
    return [
        Limit("key:a", "tokens", large),
        Limit("key:a", "tokens", small, 60.0),
        Limit("key:a", "requests", 10, 90.0),
        Limit("key:a", "tokens", large, 120.0),
        Limit("key:b", "usd", money, 3000.0),
        Limit("account:team", "tokens", 2 * small, 600.0),
        Limit("account:team", "usd", money),
    ]


class Ledger(RuleBasedStateMachine):
    """Three gateways that book no more than they have leased, and now and then begin anew."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="helexa-ledger-"))
        self.stores = {name: UsageStore(f"sqlite:///{self.directory}/x.db") for name in ("g1", "g2", "g3")}
        self.now = NOW
        self.limits: list[Limit] = []
        self.held: dict[str, dict[LimitId, int]] = {name: {} for name in self.stores}
        self.rows: list[Row] = []
        for name, store in self.stores.items():
            store.open(name, (), self.now)

    def teardown(self) -> None:
        for store in self.stores.values():
            store.close()
        shutil.rmtree(self.directory)

    def counts(self, limit: Limit) -> int:
        """By the definition of what counts."""
        found = 0
        for each in self.rows:
            start = int(each.at) // limit.width * limit.width if limit.width else 0
            if limit.subject in each.subjects and (not limit.width or start + limit.width + limit.period > self.now):
                found += each.amounts.of(limit.unit)
        return found

    def leased(self, limit: Limit, *, but: str = "") -> int:
        return sum(held.get(limit.id, 0) for name, held in self.held.items() if name != but)

    @rule(caps=st.tuples(st.integers(0, 2000), st.integers(0, 10_000), st.integers(0, 10**5)), most=st.integers(1, 7))
    @precondition(lambda self: not self.limits or not any(any(held.values()) for held in self.held.values()))
    def limits_are_declared(self, caps: tuple[int, int, int], most: int) -> None:
        self.limits = limits_of(caps)[:most] if most < 5 else limits_of(caps)

    @rule(gateway=GATEWAYS, need=st.integers(0, 800), wish=st.none() | st.integers(0, 3000))
    @precondition(lambda self: self.limits)
    def a_gateway_leases(self, gateway: str, need: int, wish: int | None) -> None:
        held = self.held[gateway]
        wants = [Want(limit, held.get(limit.id, 0), need, wish) for limit in self.limits]
        found = self.stores[gateway].lease(gateway, wants, self.now)
        assert not found.dropped
        for want, leased in zip(wants, found.leased, strict=True):
            limit = want.limit
            assert (leased.spent, leased.others) == (self.counts(limit), self.leased(limit, but=gateway))
            room = limit.cap - leased.spent - leased.others - want.have
            assert need == 0 or (leased.granted > 0) == (room >= need)
            assert leased.held == want.have + leased.granted
            held[limit.id] = leased.held
            freed = sum(amount for _, amount in leased.frees)
            assert freed == (leased.spent if limit.width else 0)

    @rule(gateway=GATEWAYS, asked=st.lists(REQUESTS, max_size=4), again=st.booleans())
    def a_gateway_books(self, gateway: str, asked: list[tuple[str, int, int]], *, again: bool) -> None:
        self.book(gateway, *self.made(gateway, asked), again=again)

    def made(self, gateway: str, asked: list[tuple[str, int, int]]) -> tuple[list[Row], dict[LimitId, int]]:
        """Rows of what was asked for, as far as the leases suffice, and what is then left of those."""
        held, made = dict(self.held[gateway]), []
        for key, late, tokens in asked:
            identity = str(len(self.rows) + len(made))
            each = row(identity, self.now - late, key, prompt=tokens, completion=0, cost=tokens * 7)
            mine = [limit for limit in self.limits if limit.subject in each.subjects]
            if all(held.get(limit.id, 0) >= each.amounts.of(limit.unit) for limit in mine):
                held |= {limit.id: held.get(limit.id, 0) - each.amounts.of(limit.unit) for limit in mine}
                made.append(each)
        return made, held

    def book(self, gateway: str, made: list[Row], held: dict[LimitId, int], *, again: bool) -> None:
        for _ in range(1 + again):
            replayed = made + self.rows[-2:] if again else made
            found = self.stores[gateway].flush(gateway, replayed, held, self.now)
            assert found == {limit: amount for limit, amount in held.items() if amount}
        self.rows += made
        self.held[gateway] = held

    @rule(gateway=GATEWAYS, part=st.integers(0, 3))
    def a_gateway_gives_back(self, gateway: str, part: int) -> None:
        self.book(gateway, [], {limit: amount * part // 3 for limit, amount in self.held[gateway].items()}, again=False)

    @rule(gateway=GATEWAYS, asked=st.lists(REQUESTS, max_size=2))
    def a_gateway_dies_and_begins_anew(self, gateway: str, asked: list[tuple[str, int, int]]) -> None:
        left, _ = self.made(gateway, asked)
        self.stores[gateway].close()
        self.stores[gateway].open(gateway, [*left, *self.rows[-1:]], self.now)
        self.rows += left
        self.held[gateway] = {}

    @rule(gateway=GATEWAYS)
    def a_gateway_ends(self, gateway: str) -> None:
        self.stores[gateway].close_gateway(gateway)
        self.held[gateway] = {}

    @rule(seconds=st.floats(0.1, 400))
    def time_goes_by(self, seconds: float) -> None:
        assert seconds < DEAD_SECONDS
        self.now += seconds
        for name, store in self.stores.items():
            store.flush(name, (), {}, self.now)

    @rule()
    def what_is_old_is_pruned(self) -> None:
        while self.stores["g1"].prune(self.now, 3600.0):
            pass

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        for name in self.stores:
            for found in self.stores[name].spending(self.limits, self.now):
                limit = found.limit
                assert (found.spent, found.leased) == (self.counts(limit), self.leased(limit))
                assert found.leased == 0 or found.spent + found.leased <= limit.cap


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
