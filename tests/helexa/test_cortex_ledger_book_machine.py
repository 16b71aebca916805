"""Two gateways that share budgets, their calls to the database begun, carried out and answered at any time, or never.

The database is a list of rows and a table of leases, kept here in the plainest way. Whatever happens, no request is let
in that could bring what counts above a cap, and in the end exactly what was delivered is booked.
"""

from collections.abc import Iterable, Mapping

from attrs import Factory, define, evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from helexa.cortex.ledger.book import Book, Held, Lacking, totals
from helexa.cortex.ledger.limits import UNITS, Amounts, Limit, Payer, Prices, account_subject
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.rows import Leased, LimitId, Row, Want
from helexa.cortex.ledger.shares import Standing, share

GATEWAYS = ("a", "b")
LIMITS = (
    Limit("key:1", "tokens", 500),
    Limit("key:1", "requests", 8, 60.0),
    Limit("key:2", "tokens", 300, 30.0),
    Limit("account:team", "usd", 4000),
)
KEYS = ("key:1", "key:2", "key:3")


@define
class Database:
    """What B's tables hold."""

    rows: dict[str, Row] = Factory(dict)
    leases: dict[tuple[str, LimitId], int] = Factory(dict)

    def spent(self, limit: Limit, now: float) -> int:
        counts = (row for row in self.rows.values() if not limit.period or row.at > now - limit.period)
        return sum(row.amounts.of(limit.unit) for row in counts if limit.subject in row.subjects)

    def leased(self, limit: Limit) -> int:
        return sum(amount for (_, key), amount in self.leases.items() if key == limit.id)

    def lease(self, gateway: str, wants: Iterable[Want], now: float, *, alone: bool) -> list[Leased]:
        return [self._lease(gateway, want, now, alone=alone) for want in wants]

    def _lease(self, gateway: str, want: Want, now: float, *, alone: bool) -> Leased:
        own = self.leases.get((gateway, want.limit.id), 0)
        others = self.leased(want.limit) - own
        spent, frees = self.spent(want.limit, now), tuple(self._frees(want.limit, now))
        found = share(want, Standing(spent, frees, own, others, alone))
        self.leases[gateway, want.limit.id] = found.held
        return found

    def _frees(self, limit: Limit, now: float) -> Iterable[tuple[float, int]]:
        rows = sorted((row for row in self.rows.values() if limit.subject in row.subjects), key=lambda row: row.at)
        return [(row.at + limit.period, row.amounts.of(limit.unit)) for row in rows if row.at > now - limit.period > 0]

    def flush(self, gateway: str, rows: Iterable[Row], keep: Mapping[LimitId, int]) -> dict[LimitId, int]:
        for row in rows:
            self.rows.setdefault(row.id, row)
        for key, amount in keep.items():
            self.leases[gateway, key] = min(self.leases.get((gateway, key), 0), amount)
        return {key: amount for (owner, key), amount in self.leases.items() if owner == gateway and amount}

    def open(self, gateway: str, rows: Iterable[Row]) -> None:
        self.flush(gateway, rows, {})
        self.leases = {at: amount for at, amount in self.leases.items() if at[0] != gateway}


@define(eq=False)
class Charge:
    gateway: str
    id: str
    payer: Payer
    held: Held
    prices: Prices
    prompt: int = 0
    completion: int = 0

    def row(self, now: float) -> Row:
        cost = self.prices.cost(self.prompt, self.completion)
        payer = self.payer
        whose = (payer.key, payer.name, payer.account)
        return Row(self.id, now, *whose, "m", "n", "/", self.prompt, 0, self.completion, cost, "r")


@define
class Call:
    """One on its way to the database and back."""

    kind: str
    rows: tuple[Row, ...] = ()
    keep: Mapping[LimitId, int] = Factory(dict)
    wants: tuple[Want, ...] = ()
    answer: object = None


@define
class Gateway:
    name: str
    book: Book = Factory(Book)
    open: list[Charge] = Factory(list)
    settled: list[Row] = Factory(list)
    lacking: list[tuple[Payer, Ask]] = Factory(list)
    call: Call | None = None

    def used(self) -> Mapping[str, Amounts]:
        assert self.call is not None
        return totals((row.subjects, row.amounts) for row in self.call.rows)


class Budgets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.database = Database()
        self.gateways = {name: Gateway(name) for name in GATEWAYS}
        self.dead: dict[str, list[Row]] = {}
        self.caps = {limit.id: limit.cap for limit in LIMITS}
        self.now = 1000.0
        self.numbers = 0
        self.delivered: dict[str, tuple[int, int]] = {}

    charges = Bundle("charges")

    # What requests do

    @rule(
        target=charges,
        at=st.sampled_from(GATEWAYS),
        key=st.sampled_from(KEYS),
        prompt=st.integers(0, 300),
        output=st.integers(0, 200),
        limited=st.booleans(),
        prices=st.builds(Prices, st.integers(0, 9), st.integers(0, 9)),
    )
    def reserve(  # noqa: PLR0913 - what a request consists of
        self, at: str, key: str, prompt: int, output: int, *, limited: bool, prices: Prices
    ) -> object:
        ask = Ask("r", "/", "m", prompt, output, limited, prices)
        return self._reserve(at, self._payer(key), ask)

    @rule(
        target=charges,
        at=st.sampled_from(GATEWAYS),
        key=st.sampled_from(KEYS),
        sizes=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=5),
    )
    def reserve_several(self, at: str, key: str, sizes: list[tuple[int, int]]) -> object:
        """With the database, all in one step, so that much of what follows is about requests that were let in."""
        asks = (Ask("r", "/", "m", prompt, output, limited=False, prices=Prices(1, 2)) for prompt, output in sizes)
        found = [self._reserve_for_sure(at, key, ask) for ask in asks]
        return multiple(*(each for each in found if isinstance(each, Charge)))

    def _reserve_for_sure(self, at: str, key: str, ask: Ask) -> object:
        for _ in range(3):
            found = self._reserve(at, self._payer(key), ask)
            if isinstance(found, Charge) or self._idle(at) is None:
                return found
            self.begin_lease(at)
            self.carry_out(at)
            self.answer(at)
        return multiple()

    def _reserve(self, at: str, payer: Payer, ask: Ask) -> object:
        gateway = self.gateways.get(at)
        if gateway is None:
            return multiple()
        found = gateway.book.reserve(payer, ask, self.now)
        if isinstance(found, Lacking):
            gateway.lacking.append((payer, ask))
        if not isinstance(found, Held):
            return multiple()
        self._check_held(payer, ask, found)
        self.numbers += 1
        charge = Charge(at, str(self.numbers), payer, found, ask.prices)
        gateway.open.append(charge)
        return charge

    def _check_held(self, payer: Payer, ask: Ask, held: Held) -> None:
        """Nothing that counts is above its cap, with all that is being served taken as used."""
        share = held.share
        assert 0 <= share.output <= ask.output
        assert share.total <= ask.prompt + ask.output
        assert not (ask.limited and share.output < ask.output)
        assert share.full == (share.total == ask.prompt + ask.output and share.output == ask.output)
        for limit in payer.limits:
            if share.amounts[UNITS[limit.unit]] > 0:
                assert self._committed(limit) <= limit.cap, limit

    def _committed(self, limit: Limit) -> int:
        going = [charge for gateway in self.gateways.values() for charge in gateway.open]
        charged = (charge for charge in going if limit.subject in charge.payer.subjects)
        reserved = sum(charge.held.share.amounts[UNITS[limit.unit]] for charge in charged)
        unbooked = [row for each in self.gateways.values() for row in (*each.settled, *(each.call or Call("")).rows)]
        unbooked += [row for rows in self.dead.values() for row in rows]
        known = {row.id: row for row in unbooked if row.id not in self.database.rows}
        pending = sum(row.amounts.of(limit.unit) for row in known.values() if limit.subject in row.subjects)
        return self.database.spent(limit, self.now) + reserved + pending

    @rule(charge=charges, part=st.floats(0, 1), split=st.floats(0, 1))
    def deliver(self, charge: Charge, part: float, split: float) -> None:
        if self._is_open(charge):
            most = charge.held.share
            total = max(charge.prompt + charge.completion, int(most.total * part))
            charge.completion = max(charge.completion, min(most.output, int(total * split)))
            charge.prompt = total - charge.completion
            cost = charge.prices.cost(charge.prompt, charge.completion)
            if cost > most.cost:  # a split that the output's bound does not allow
                charge.prompt = charge.completion = 0

    @rule(charge=consumes(charges))
    def settle(self, charge: Charge) -> None:
        if not self._is_open(charge):
            return
        gateway = self.gateways[charge.gateway]
        gateway.open.remove(charge)
        row = charge.row(self.now)
        gateway.book.settle(charge.held, charge.payer, row.amounts)
        gateway.settled.append(row)
        self.delivered[charge.id] = charge.prompt, charge.completion

    def _is_open(self, charge: Charge) -> bool:
        gateway = self.gateways.get(charge.gateway)
        return gateway is not None and charge in gateway.open

    # Calls to the database

    @rule(at=st.sampled_from(GATEWAYS))
    def begin_flush(self, at: str) -> None:
        gateway = self._idle(at)
        if gateway is not None:
            rows, gateway.settled = tuple(gateway.settled), []
            gateway.call = Call("flush", rows)
            gateway.call.keep = gateway.book.keep(gateway.used())

    @rule(at=st.sampled_from(GATEWAYS))
    def begin_lease(self, at: str) -> None:
        gateway = self._idle(at)
        if gateway is None:
            return
        asks = []
        for payer, ask in gateway.lacking:
            found = gateway.book.reserve(self._payer(payer.key), ask, self.now)
            if isinstance(found, Held):
                gateway.book.release(found)
            elif isinstance(found, Lacking):
                asks.append((found, ask))
        gateway.lacking.clear()
        gateway.call = Call("lease", wants=gateway.book.wants(asks, self.now))

    def _idle(self, at: str) -> Gateway | None:
        gateway = self.gateways.get(at)
        return gateway if gateway is not None and gateway.call is None else None

    @rule(at=st.sampled_from(GATEWAYS))
    def carry_out(self, at: str) -> None:
        gateway = self.gateways.get(at)
        if gateway is not None and gateway.call is not None and gateway.call.answer is None:
            self._carry_out(gateway, gateway.call)

    def _carry_out(self, gateway: Gateway, call: Call) -> None:
        if call.kind == "flush":
            call.answer = self.database.flush(gateway.name, call.rows, call.keep)
        else:
            call.answer = self.database.lease(gateway.name, call.wants, self.now, alone=len(self.gateways) == 1)

    @rule(at=st.sampled_from(GATEWAYS))
    def answer(self, at: str) -> None:
        gateway = self.gateways.get(at)
        if gateway is None or gateway.call is None or gateway.call.answer is None:
            return
        call = gateway.call
        if call.kind == "flush":
            gateway.book.flushed(gateway.used(), call.keep, call.answer)  # type: ignore[arg-type]
        else:
            gateway.book.leased(call.answer, self.now)  # type: ignore[arg-type]
            gateway.book.alone = len(self.gateways) == 1
        gateway.call = None

    @rule(at=st.sampled_from(GATEWAYS))
    def lose(self, at: str) -> None:
        """Nobody knows whether it was carried out."""
        gateway = self.gateways.get(at)
        if gateway is not None and gateway.call is not None:
            gateway.settled = [*gateway.call.rows, *gateway.settled]
            gateway.call = None
            gateway.book.owe_all()

    @rule(at=st.sampled_from(GATEWAYS))
    def give_back(self, at: str) -> None:
        if at in self.gateways:
            self.gateways[at].book.give_back(self.now)

    # What happens around them

    @rule(seconds=st.sampled_from((0.1, 0.5, 2.0, 20.0, 61.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(index=st.integers(0, len(LIMITS) - 1), cap=st.integers(0, 1000))
    def change_cap(self, index: int, cap: int) -> None:
        self.caps[LIMITS[index].id] = cap

    @precondition(lambda self: not self.dead)
    @rule(at=st.sampled_from(GATEWAYS))
    def crash(self, at: str) -> None:
        """A call that is on its way may still be carried out; here it is not, or was before."""
        gateway = self.gateways.pop(at, None)
        if gateway is not None:
            rows = [*gateway.settled, *(gateway.call or Call("")).rows]
            for charge in gateway.open:
                rows.append(charge.row(self.now))
                self.delivered[charge.id] = charge.prompt, charge.completion
            self.dead[at] = rows

    @precondition(lambda self: self.dead)
    @rule()
    def recover(self) -> None:
        at, rows = self.dead.popitem()
        self.database.open(at, rows)
        self.gateways[at] = Gateway(at)

    def _payer(self, key: str) -> Payer:
        subjects = (key, account_subject("team"))
        limits = (evolve(limit, cap=self.caps[limit.id]) for limit in LIMITS if limit.subject in subjects)
        return Payer(key, key, "team", tuple(limits))

    # What always holds

    @invariant()
    def the_database_thinks_that_at_least_as_much_is_leased_as_is_used(self) -> None:
        for gateway in self.gateways.values():
            for purse in gateway.book.purses:
                assert purse.lease >= 0
                assert purse.reserved >= 0
                held = self.database.leases.get((gateway.name, purse.limit.id), 0)
                done = gateway.call is not None and gateway.call.kind == "flush" and gateway.call.answer is not None
                used = gateway.used().get(purse.limit.subject, Amounts()) if done else Amounts()
                assert held >= purse.lease - used.of(purse.limit.unit) or purse in gateway.book._owing.values()

    def teardown(self) -> None:
        while self.dead:
            self.recover()
        for gateway in self.gateways.values():
            self.lose(gateway.name)
            for charge in list(gateway.open):
                self.settle(charge)  # type: ignore[call-arg]
            gateway.book.give_back(self.now + 100)
            self.begin_flush(gateway.name)
            self.carry_out(gateway.name)
            self.answer(gateway.name)
            self._check_over(gateway)
        booked = {row.id: (row.prompt, row.completion) for row in self.database.rows.values()}
        assert booked == self.delivered

    def _check_over(self, gateway: Gateway) -> None:
        assert not gateway.book.owes
        for purse in gateway.book.purses:
            assert (purse.lease, purse.reserved, purse.pending) == (0, 0, [0, 0, 0])
            assert self.database.leases.get((gateway.name, purse.limit.id), 0) == 0


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
