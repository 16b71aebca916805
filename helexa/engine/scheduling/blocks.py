"""The paged KV cache's book-keeping: which block holds what, who uses it, which may be taken next.

A block is ``block_size`` token positions of every layer. Full blocks are known by a hash of everything up to their
end, chained block by block and rooted in the caller's salt, so that a prompt that begins like an earlier one finds its
blocks again, and never those of another tenant. Paged allocation: Kwon et al., "Efficient Memory Management for Large
Language Model Serving with PagedAttention", SOSP 2023.

Nothing is ever copied on write: only full blocks are shared, and a full block is never written again. The last, partly
filled block of a shared prompt is computed anew by each sequence, which costs less than a block's worth of tokens.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

_DIGEST_BYTES = 16


def salt_root(salt: str) -> bytes:
    """The hash that a tenant's chains begin with."""
    return blake2b(salt.encode(), digest_size=_DIGEST_BYTES, person=b"helexa-kv").digest()


def chain(parent: bytes, ids: Sequence[int]) -> bytes:
    """The hash of a full block: of its token ids and of all before it."""
    return blake2b(array("q", ids).tobytes(), digest_size=_DIGEST_BYTES, key=parent).digest()


class BlockManager:
    """Owns the reference counts and hashes of a pool of KV blocks. Each block is used, cached or free.

    *Used*: some sequence refers to it. *Cached*: none does, and its content can be found by its hash. *Free*: its
    content is nobody's. A new block comes from the free ones, then from the cached ones, least recently used first.

    Blocks are handed out in runs of neighbours where that costs nothing: a CPU reads a sequence whose blocks lie in a
    row in place, and has to gather it otherwise.

    Args:
        total: blocks in the pool.
        block_size: tokens per block.
    """

    def __init__(self, total: int, block_size: int) -> None:
        self.total = total
        self.block_size = block_size
        self._users = [0] * total
        self._hashes: list[bytes | None] = [None] * total
        self._found: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(total))
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._released = [0] * total  # when each was last let go, in releases
        self._clock = 0
        self._cursor = 0

    @property
    def free(self) -> int:
        """Blocks whose content is nobody's."""
        return len(self._free)

    @property
    def cached(self) -> int:
        """Blocks that nobody uses and whose content may be found again."""
        return len(self._cached)

    @property
    def available(self) -> int:
        """Blocks that ``allocate`` can hand out."""
        return len(self._free) + len(self._cached)

    def find(self, digest: bytes) -> int | None:
        """The block with this content, if there is one."""
        return self._found.get(digest)

    def is_idle(self, block: int) -> bool:
        """Whether nobody uses it: sharing it takes one from those available."""
        return self._users[block] == 0

    def share(self, block: int) -> None:
        """Become one more user of a block that was found."""
        if self._users[block] == 0:
            del self._cached[block]
        self._users[block] += 1

    def allocate(self, count: int, after: int | None = None, room: int = 0) -> list[int]:
        """Take blocks for one sequence, each with this one user.

        Args:
            count: how many.
            after: the sequence's last block; its neighbours are preferred.
            room: blocks that the sequence may grow to; the next sequence begins beyond them if it can.

        Raises:
            RuntimeError: fewer than ``count`` are available; the caller has to ask first.
        """
        if count > self.available:
            raise RuntimeError(f"{count} blocks wanted, {self.available} available")
        if after is None:
            self._begin(max(room, count))
        taken, last = list[int](), after
        for _ in range(count):
            last = self._take(last)
            taken.append(last)
        if room and taken:
            self._cursor = (taken[0] + max(room, count)) % self.total
        # What was let go comes back last one first: in order it may be a run again.
        return sorted(taken, key=lambda block: (after is not None and block <= after, block))

    def _begin(self, room: int) -> None:
        """Go back to the pool's start where a new sequence would run over its end."""
        if self._cursor + room > self.total and 0 in self._free:
            self._cursor = 0

    def _take(self, after: int | None) -> int:
        block = self._choose(self._cursor if after is None else after + 1)
        if block in self._free:
            del self._free[block]
        else:
            del self._cached[block]
            self._forget(block)
        self._users[block] = 1
        return block

    def _choose(self, wanted: int) -> int:
        """The wanted block if it is free, or cached and among the older half; else the one whose turn it is."""
        if wanted in self._free:
            return wanted
        if self._free:
            return next(iter(self._free))
        oldest, newest = next(iter(self._cached)), next(reversed(self._cached))
        middle = (self._released[oldest] + self._released[newest]) // 2
        return wanted if wanted in self._cached and self._released[wanted] <= middle else oldest

    def _forget(self, block: int) -> None:
        digest = self._hashes[block]
        if digest is not None:
            del self._found[digest]
            self._hashes[block] = None

    def publish(self, block: int, digest: bytes) -> None:
        """Let a full block be found by its content. If another block is already known for it, that one stays."""
        if digest not in self._found and self._hashes[block] is None:
            self._found[digest] = block
            self._hashes[block] = digest

    def release(self, blocks: Iterable[int]) -> None:
        """Let a sequence's blocks go. The last cached ones are taken first: a shorter beginning is found more often."""
        ended = list(blocks)
        for block in ended:
            self._users[block] -= 1
        idle = [block for block in ended if self._users[block] == 0]
        self._free.update((block, None) for block in idle if self._hashes[block] is None)
        for block in reversed(idle):
            if self._hashes[block] is not None:
                self._clock += 1
                self._released[block] = self._clock
                self._cached[block] = None

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Compare the books with the block tables of all sequences.

        Raises:
            RuntimeError: a block is lost, counted wrongly, or in two states at once.
        """
        users = [0] * self.total
        for block in (block for table in tables for block in table):
            users[block] += 1
        if users != self._users:
            wrong = next(block for block, count in enumerate(users) if count != self._users[block])
            raise RuntimeError(f"block {wrong} has {users[wrong]} users and {self._users[wrong]} references")
        used = {block for block, count in enumerate(users) if count}
        states = [used, set(self._free), set(self._cached)]
        if sum(map(len, states)) != self.total or set().union(*states) != set(range(self.total)):
            raise RuntimeError(f"{[len(state) for state in states]} blocks used, free, cached of {self.total}")
        self._check_hashes()

    def _check_hashes(self) -> None:
        known = {digest: block for block, digest in enumerate(self._hashes) if digest is not None}
        if known != self._found:
            raise RuntimeError("a hash leads to a block that does not have it")
        if any(self._hashes[block] is not None for block in self._free):
            raise RuntimeError("a free block has a hash")
        if any(self._hashes[block] is None for block in self._cached):
            raise RuntimeError("a cached block has no hash")
