"""Who is served next: a queue that is fair between keys.

Each key has a counter of the service it got. The waiting request of the key with the least is served first, so a key
that asks for much waits behind keys that ask for little, and a machine with one busy key serves that key alone. Source:
Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (the virtual token counter).

A key has a counter for each priority that it asks with: its *account*. With one for all, a key that starves at a low
priority would be the least served for ever, and each newcomer at a higher one, level with it, would go before the rest.
"""

from bisect import insort
from collections.abc import Collection, Iterator

from helexa.engine.scheduling.sequence import Account, Sequence

PREFILL_WEIGHT = 1
DECODE_WEIGHT = 2
"""A generated token costs about twice a prompt token, as the paper and providers' prices have it."""


class Service:
    """The counters. A key that was away does not save up: it comes back level with the least served of its rivals.

    Rivals are the other keys that have something waiting or running at the same priority.
    """

    def __init__(self) -> None:
        self._counters: dict[Account, float] = {}

    def of(self, account: Account) -> float:
        """Weighted tokens served."""
        return self._counters.get(account, 0.0)

    def enter(self, account: Account, present: Collection[Account]) -> None:
        """An account that had nothing waiting or running has something now; ``present`` are the others that have."""
        priority, _ = account
        rivals = [other for other in present if other[0] == priority]
        least = min(map(self.of, rivals), default=0.0)
        self._counters[account] = max(self.of(account), least) if rivals else 0.0
        away = [each for each in self._counters.keys() - {account, *present} if each[0] == priority]
        for each in away:
            if not rivals or self.of(each) <= least:
                del self._counters[each]  # it would come back level with the least: no need to remember

    def serve(self, account: Account, tokens: int, weight: int) -> None:
        """Count service as it is given."""
        self._counters[account] = self.of(account) + tokens * weight


class WaitingQueue:
    """Sequences that wait to run, in arrival order within their key and priority."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lines: dict[Account, list[Sequence]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Sequence]:
        for line in self._lines.values():
            yield from line

    @property
    def accounts(self) -> set[Account]:
        """Who has something waiting."""
        return set(self._lines)

    def push(self, sequence: Sequence) -> None:
        """Add one; one that has run before takes its old place, since its number is lower."""
        insort(self._lines.setdefault(sequence.account, []), sequence, key=lambda each: each.number)
        self._size += 1

    def head(self) -> Sequence | None:
        """Whose turn it is: the highest priority, then the least served key, then the oldest."""
        heads = (line[0] for line in self._lines.values())
        return min(heads, key=lambda s: (-s.priority, self._service.of(s.account), s.number), default=None)

    def remove(self, sequence: Sequence) -> None:
        """Take one out."""
        line = self._lines[sequence.account]
        line.remove(sequence)
        if not line:
            del self._lines[sequence.account]
        self._size -= 1
