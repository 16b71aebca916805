"""What the database says that was used, held against what clients got; read with statements of its own."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import sqlalchemy as sa
from attrs import define, field, frozen
from budget_clients import Got
from budget_parts import PRICES

from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import LimitId

_ROWS: Final = "SELECT id, at, key, account, node, prompt, cached, completion, cost, request_id FROM helexa_usage"
_LEASES: Final = "SELECT subject, unit, period, SUM(amount) FROM helexa_leases GROUP BY subject, unit, period"


@frozen
class Booked:
    """A row of the ledger."""

    id: str
    at: float
    key: str
    account: str
    node: str
    prompt: int
    cached: int
    completion: int
    cost: int
    request_id: str

    def counts(self, limit: Limit) -> int:
        """What a limit counts of it."""
        if limit.subject not in {self.key, f"account:{self.account}"}:
            return 0
        amounts = {"tokens": self.prompt + self.completion, "requests": 1, "usd": self.cost}
        return amounts[limit.unit]


@define(eq=False)
class Books:
    """A database of the ledger's, read beside the gateways that write it."""

    url: str
    _engine: sa.Engine = field(init=False)

    def __attrs_post_init__(self) -> None:
        url = self.url.replace("postgresql:", "postgresql+psycopg:")
        level = "REPEATABLE READ" if url != self.url else "AUTOCOMMIT"
        self._engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level=level)

    def rows(self) -> list[Booked]:
        """All that is booked."""
        return self.look()[0]

    def look(self) -> tuple[list[Booked], dict[LimitId, int]]:
        """All that is booked, and what gateways hold of each limit, both at one moment: a flush moves amounts."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # its driver begins none for reading
            rows = [Booked(*row) for row in connection.exec_driver_sql(_ROWS)]
            held = connection.exec_driver_sql(_LEASES).all()
        return rows, {(subject, unit, float(period)): int(total) for subject, unit, period, total in held}

    def over(self, limits: Iterable[Limit]) -> list[str]:
        """Which caps are exceeded: by what is booked in any stretch of the window, or by that and the leases."""
        now = time.time()
        rows, held = self.look()
        return [line for limit in limits for line in _over(limit, rows, held.get(limit.id, 0), now)]


def _over(limit: Limit, rows: Sequence[Booked], leased: int, now: float) -> Iterator[str]:
    used = most_in_a_window(limit, rows)
    if used > limit.cap:
        yield f"{limit.id}: {used} were used, of {limit.cap}"
    counts = sum(row.counts(limit) for row in rows if not limit.period or row.at > now - limit.period)
    if counts + leased > limit.cap:
        yield f"{limit.id}: {counts} count and {leased} are set aside, of {limit.cap}"


def most_in_a_window(limit: Limit, rows: Iterable[Booked]) -> int:
    """The most that was used in any stretch as long as the limit's period."""
    counted = sorted((row.at, row.counts(limit)) for row in rows)
    if not limit.period:
        return sum(amount for _, amount in counted)
    most, total, first = 0, 0, 0
    for at, amount in counted:
        total += amount
        while counted[first][0] <= at - limit.period:
            total -= counted[first][1]
            first += 1
        most = max(most, total)
    return most


def discrepancies(gots: Sequence[Got], rows: Sequence[Booked]) -> list[str]:
    """Where the ledger differs from what clients got, a line for each request that it does of."""
    booked = {row.request_id: row for row in rows}
    asked = {got.request_id for got in gots}
    prompts = prompts_of(gots)
    twice = [f"{name}: booked {n} times" for name, n in Counter(row.request_id for row in rows).items() if n > 1]
    unasked = [f"{name}: nobody asked for it" for name in booked.keys() - asked]
    wrong = [_wrong(got, booked.get(got.request_id), prompts.get(got.order.prompt)) for got in gots]
    dear = [
        f"{row.request_id}: costs {row.cost}" for row in rows if row.cost != PRICES.cost(row.prompt, row.completion)
    ]
    return [*twice, *unasked, *filter(None, wrong), *dear]


def prompts_of(gots: Iterable[Got]) -> dict[tuple[str, str], int]:
    """Tokens of each prompt, as whole answers told them: all the same."""
    told: dict[tuple[str, str], set[int]] = defaultdict(set)
    for got in gots:
        if got.whole and got.prompt is not None:
            told[got.order.prompt].add(got.prompt)
    assert all(len(counts) == 1 for counts in told.values()), told
    return {prompt: counts.pop() for prompt, counts in told.items()}


def _wrong(got: Got, row: Booked | None, prompt: int | None) -> str | None:
    """What is wrong with the row of a request, as a line that says what it is about."""
    problem = _whole(got, row, prompt) if got.whole else _partly(got, row, prompt)
    return f"{got.request_id}: {problem}; got {got}; booked {row}" if problem else None


def _whole(got: Got, row: Booked | None, prompt: int | None) -> str | None:
    if row is None:
        return "a whole answer is not booked"
    told = got.prompt if got.prompt is not None else prompt
    if told is not None and row.prompt != told:
        return "another prompt is booked"
    made = got.completion if got.completion is not None else got.order.exact
    return None if made == row.completion else "another answer is booked"


def _partly(got: Got, row: Booked | None, prompt: int | None) -> str | None:
    """Refused, or cut off by either side: no less than what came, and no more than can have been made."""
    if row is None:
        return "what was delivered is not booked" if got.received else None
    if got.status not in {0, 200} and (row.prompt or row.completion):
        return "an error is booked as tokens"
    if not got.received <= row.completion <= got.order.most:
        return "it is booked as what it cannot have been"
    if prompt is not None and row.prompt not in ({prompt} if row.completion else {0, prompt}):
        return "its prompt is booked as what it is not"
    return None
