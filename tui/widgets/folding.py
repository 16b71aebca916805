"""Groups of lines that can be folded away, and which of them are in sight. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attrs import define, field, frozen

FEW_GROUPS: Final = 12
"""So many groups are shown open; where there are more, each is one line until it is opened."""


@frozen
class Entry:
    """A line.

    Attributes:
        key: unique in the list; the cursor stays on it.
        content: what its painter makes a line of.
    """

    key: str
    content: Any


@frozen
class Group:
    """A head, and what belongs to it."""

    head: Entry
    entries: tuple[Entry, ...] = ()


@frozen
class Row:
    """A line in sight; ``entry`` is ``None`` for the head of its group."""

    key: str
    group: Group
    entry: Entry | None
    folded: bool = False


Words = Callable[[Entry], str]
"""What a filter looks at, in lower case."""


@define
class Folding:
    """What an operator has opened, folded and asked for.

    Attributes:
        usual: whether groups that nobody touched are folded; ``None``: nothing was shown yet.
        touched: those that somebody did, by the keys of their heads.
        wanted: words of the filter, in lower case.
    """

    usual: bool | None = None
    touched: dict[str, bool] = field(factory=dict)
    wanted: tuple[str, ...] = ()

    def is_folded(self, key: str) -> bool:
        """Whether only the head of a group is in sight."""
        return self.touched.get(key, bool(self.usual))

    def fold(self, key: str, *, folded: bool) -> None:
        """Fold a group, or open it."""
        self.touched[key] = folded

    def fold_all(self, *, folded: bool) -> None:
        """Fold every group, or open every one."""
        self.usual = folded
        self.touched.clear()

    def rows(self, groups: Sequence[Group], words: Words) -> list[Row]:
        """The lines in sight, in their order."""
        if self.usual is None and groups:
            self.usual = len(groups) > FEW_GROUPS  # once: a fleet that grows must not fold under somebody's eyes
        if self.wanted:
            return [row for group in groups for row in self._fitting(group, words)]
        return [row for group in groups for row in self._unfolded(group)]

    def _unfolded(self, group: Group) -> Iterator[Row]:
        folded = self.is_folded(group.head.key)
        yield Row(group.head.key, group, None, folded=folded)
        if not folded:
            for entry in group.entries:
                yield Row(entry.key, group, entry)

    def _fitting(self, group: Group, words: Words) -> Iterator[Row]:
        """Those of a group that have all words, their own or their head's. A filter looks into what is folded, too."""
        head = words(group.head)
        left = [each for each in self.wanted if each not in head]
        fitting = [entry for entry in group.entries if _has(words(entry), left)]
        if fitting or not left:
            yield Row(group.head.key, group, None)
            for entry in fitting:
                yield Row(entry.key, group, entry)


def _has(words: str, wanted: Sequence[str]) -> bool:
    return all(each in words for each in wanted)
