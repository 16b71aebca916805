"""A scripted keyring and a scripted ledger behind the operators' routes."""

from collections.abc import Sequence
from typing import Any

import orjson
from attrs import define, evolve, field
from http_parts import Call, scope_of

from config import Account
from helexa.cortex.access import auth, key_routes, keys
from helexa.cortex.access.keys import Change, Made, Record, Wanted, record_of
from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Grouping, Sums
from helexa.web.quart_errors import json_app
from helexa.wire import errors
from helexa.wire.errors import ApiError

NOW = 1000.0
SECRET = "hx-" + "s" * 36 + "wxyz"
DECLARED = auth.Key("static", "team", frozenset({"inference", "fleet:read"}), id="declared/static")


def record(name: str = "ci", **settings: Any) -> Record:
    return evolve(record_of(Wanted(name), SECRET, "1", NOW), **settings)


@define(eq=False)
class FakeKeyring:
    """Remembers what it was asked; an error is raised instead of an answer."""

    kept: tuple[Record, ...] = ()
    asked: list[tuple[Any, ...]] = field(factory=list)
    error: ApiError | None = None
    static: tuple[auth.Key, ...] = (DECLARED,)
    topology: tuple[Account, ...] = ()
    database: tuple[Account, ...] = ()

    def records(self) -> tuple[Record, ...]:
        return self.kept

    def declared(self) -> tuple[auth.Key, ...]:
        return self.static

    def record(self, name: str) -> Record:
        for each in self.kept:
            if each.name == name:
                return each
        raise keys.not_found(name)

    async def create(self, wanted: Wanted) -> Made:
        self.note("create", wanted)
        return Made(record_of(wanted, SECRET, "1", NOW), SECRET)

    async def rotate(self, name: str) -> Made:
        self.note("rotate", name)
        return Made(evolve(record(name), rotated=NOW), SECRET)

    async def change(self, name: str, change: Change) -> Record:
        self.note("change", name, change.values)
        return evolve(record(name), **change.values)

    async def revoke(self, name: str) -> Record:
        self.note("revoke", name)
        return evolve(record(name), revoked=NOW)

    def declared_accounts(self) -> tuple[Account, ...]:
        return self.topology

    def accounts(self) -> tuple[Account, ...]:
        return self.database

    async def set_account(self, account: Account) -> None:
        self.note("set_account", account)
        self.database = (*(each for each in self.database if each.name != account.name), account)

    async def drop_account(self, name: str) -> None:
        self.note("drop_account", name)

    def note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


@define(eq=False)
class FakeLedger:
    """What was spent and reserved by subject and unit; with `away` its database does not answer."""

    stands: dict[tuple[str, str], tuple[int, int]] = field(factory=dict)
    sums: tuple[Sums, ...] = ()
    away: bool = False
    looks: list[tuple[Limit, ...]] = field(factory=list)
    asked: list[tuple[Any, ...]] = field(factory=list)

    async def spending(self, limits: Sequence[Limit]) -> Sequence[tuple[Limit, int, int]]:
        self.looks.append(tuple(limits))
        if self.away:
            raise errors.unavailable("away", 2)
        return [(limit, *self.stands.get((limit.subject, limit.unit), (0, 0))) for limit in limits]

    async def usage(self, since: float, until: float, by: Grouping, most: int) -> Sequence[Sums]:
        self.asked.append((since, until, by, most))
        if self.away:
            raise errors.unavailable("away", 2)
        return self.sums


async def ask(  # noqa: PLR0913 - what a request consists of, and who answers it
    fake: FakeKeyring, method: str, path: str, body: Any = None, *, ledger: FakeLedger | None = None, query: bytes = b""
) -> Call:
    """The answer of the operators' routes; a hash is in none."""
    app = json_app("keys")
    key_routes.add_routes(app, fake, ledger)
    data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    scope = {**scope_of(method, path), "query_string": query}
    call = await Call(scope, data).run(app)
    assert auth.sha256(SECRET.encode()).encode() not in call.answer, "a hash is in no answer"
    return call
