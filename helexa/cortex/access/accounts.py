"""Accounts, and who pays for the requests of a key. Pure."""

from collections.abc import Iterable

from attrs import define, field

from config import Account
from helexa.cortex.access.auth import Key
from helexa.cortex.ledger.limits import Payer, payer


@define(eq=False)
class Accounts:
    """The accounts of one fleet.

    Attributes:
        declared: the topology's by name; they go before those of the same name that are kept.
        kept: the database's by name.
    """

    declared: dict[str, Account] = field(factory=dict)
    kept: dict[str, Account] = field(factory=dict)
    _payers: dict[str, tuple[Key, Payer]] = field(factory=dict)

    def declare(self, accounts: Iterable[Account]) -> None:
        """Take those of the topology in place of what it had."""
        self.declared = {account.name: account for account in accounts}
        self._payers.clear()

    def keep(self, accounts: Iterable[Account]) -> None:
        """Take those of the database in place of what it had."""
        self.kept = {account.name: account for account in sorted(accounts, key=lambda account: account.name)}
        self._payers.clear()

    def payer(self, key: Key) -> Payer:
        """Who pays for a key's requests. Asked once per request, so made once per key."""
        identity = key.id or key.name
        found = self._payers.get(identity)
        if found is None or found[0] is not key:  # by identity, as equality takes longer: a changed key is a new object
            found = key, self._payer(identity, key)
            self._payers[identity] = found
        return found[1]

    def _payer(self, identity: str, key: Key) -> Payer:
        account = self.declared.get(key.account) or self.kept.get(key.account)
        budgets = {} if account is None else {account.name: account.budgets}
        return payer(identity, key.name, key.account, key.budgets, budgets)
