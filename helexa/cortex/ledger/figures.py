"""What metrics show of the ledger. Pure."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from helexa.cortex.ledger.limits import Amounts, Limit


@frozen
class LimitFigures:
    """A limit that requests were counted against.

    Attributes:
        limit: which.
        name: of the key or account.
        left: what is neither spent nor set aside, in the limit's unit.
    """

    limit: Limit
    name: str
    left: int


@frozen
class Figures:
    """For metrics.

    Attributes:
        spent: what this process has settled, by the name of the key.
        limits: those that this process has to do with.
        open: charges that are not settled.
        journal: rows that wait for the database to come back.
        trouble: what is wrong with the database; ``None``: nothing.
    """

    spent: Mapping[str, Amounts]
    limits: Sequence[LimitFigures]
    open: int
    journal: int
    trouble: str | None
