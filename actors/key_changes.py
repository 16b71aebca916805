"""What the keyring is asked to change."""

from typing import TypeAlias

from attrs import frozen

from actors.mailbox import Ask
from config import Account
from helexa.cortex.access.keys import Change, Made, Record, Wanted


@frozen(eq=False)
class Create(Ask[Made]):
    """Make a key."""

    wanted: Wanted


@frozen(eq=False)
class Rotate(Ask[Made]):
    """Exchange a key."""

    name: str


@frozen(eq=False)
class Alter(Ask[Record]):
    """Have a key be good for something else."""

    name: str
    change: Change


@frozen(eq=False)
class Revoke(Ask[Record]):
    """Have a key be good for nothing."""

    name: str


@frozen(eq=False)
class SetAccount(Ask[None]):
    """Keep an account's budgets."""

    account: Account


@frozen(eq=False)
class DropAccount(Ask[None]):
    """Forget an account's budgets."""

    name: str


KeyChange: TypeAlias = Create | Rotate | Alter | Revoke | SetAccount | DropAccount
