"""What the ledger keeps of a request, and what it is asked for and answers. Pure."""

from typing import Literal, NamedTuple, TypeAlias

from attrs import field, frozen

from config import BudgetUnit
from helexa.cortex.ledger.limits import Amounts, Limit, account_subject

LimitId: TypeAlias = tuple[str, BudgetUnit, float]
"""``Limit.id``."""
Grouping: TypeAlias = Literal["key", "account", "model", "node"]


class Row(NamedTuple):
    """A request as it is booked; it counts as one request. Its fields are the columns of the table, in their order.

    Attributes:
        id: no other row's; a row that is booked already is not booked again.
        at: Unix time that its usage counts from.
        key: subject of the key.
        name: of the key.
        account: name of the account.
        model: the name that was asked for.
        node: who served it: a node, or ``provider:NAME``.
        route: path of the request.
        prompt: prompt tokens, those ``cached`` among them.
        cached: prompt tokens that were not computed anew.
        completion: tokens of the answer.
        cost: in picodollars.
        request_id: names the request in logs and answers.
    """

    id: str
    at: float
    key: str
    name: str
    account: str
    model: str
    node: str
    route: str
    prompt: int
    cached: int
    completion: int
    cost: int
    request_id: str

    @property
    def amounts(self) -> Amounts:
        """What limits count."""
        return Amounts(self.prompt + self.completion, 1, self.cost)

    @property
    def subjects(self) -> tuple[str, str]:
        """Whom it is booked to."""
        return self.key, account_subject(self.account)


@frozen
class Want:
    """What a gateway asks to have set aside of one limit. Amounts are in the limit's unit.

    Attributes:
        limit: with the cap that holds now.
        have: the gateway's lease as it knows it; what the database has beside that is taken back.
        need: less than this on top of ``have`` is of no use.
        wish: no more than this on top of ``have``; ``None``: all that is left where no other gateway was seen lately,
            else ``need`` and an eighth of what is left beyond it.
    """

    limit: Limit
    have: int
    need: int
    wish: int | None = None


@frozen
class Leased:
    """What became of a ``Want``.

    Attributes:
        limit: of which.
        held: the gateway's lease of it from now on. Less than it had only if it was thought dead, and others have what
            was its.
        granted: what was added now: at least what was needed, or 0.
        spent: what counts of all that was booked.
        others: leases of other gateways, which may come back soon.
        room: what is left to be leased, after this.
        frees: Unix times at which parts of ``spent`` count no more, with their amounts; the soonest first.
    """

    limit: Limit
    held: int
    granted: int
    spent: int
    others: int
    room: int
    frees: tuple[tuple[float, int], ...] = ()


@frozen
class Leases:
    """The answer to several wants.

    Attributes:
        leased: in the order of the wants.
        alone: whether no other gateway was seen lately.
        dropped: gateways that were thought dead, and lost their leases.
    """

    leased: tuple[Leased, ...]
    alone: bool
    dropped: tuple[str, ...] = ()


@frozen
class Spending:
    """Where a limit stands: ``spent`` counts, and ``leased`` is in the hands of gateways."""

    limit: Limit
    spent: int
    leased: int


@frozen
class Sums:
    """What was used under one name.

    Attributes:
        name: of a key, account, model or node.
        subject: of a key or account; empty for others.
        requests: how many.
        prompt: tokens, ``cached`` among them.
        cached: of those, tokens that were not computed anew.
        completion: tokens.
        cost: in picodollars.
    """

    name: str
    subject: str = field(default="")
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: int = 0
