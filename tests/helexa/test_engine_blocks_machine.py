"""The KV cache's books under any order of sequences that come, share, grow and go, against a model of them."""

from itertools import pairwise

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from helexa.engine.scheduling.blocks import BlockManager, chain, salt_root

Content = tuple[str, tuple[int, ...]]
"""A full block: the tenant, and all tokens up to the block's end."""


@define(eq=False)
class Writer:
    """A sequence, as far as blocks know."""

    salt: str
    ids: list[int]
    digest: bytes
    blocks: list[int] = field(factory=list)


class BlockMachine(RuleBasedStateMachine):
    """Sequences come, share, grow and go. The model knows what was written where, and who was let go when."""

    writers = Bundle("writers")

    @initialize(total=st.integers(1, 12), size=st.integers(1, 3))
    def begin(self, total: int, size: int) -> None:
        self.manager = BlockManager(total, size)
        self.live: list[Writer] = []
        self.content: dict[int, Content] = {}  # of published blocks
        self.digests: dict[Content, bytes] = {}
        self.cached: list[int] = []  # the first was let go first
        self.free = set(range(total))

    @rule(
        target=writers,
        salt=st.sampled_from(["", "other"]),
        ids=st.lists(st.integers(0, 1), min_size=1, max_size=12),
        room=st.integers(0, 12),
    )
    def arrive(self, salt: str, ids: list[int], room: int) -> object:
        """A prompt: what is known is shared, the rest is allocated and written."""
        found = self._look_up(salt, ids)
        missing = -(-len(ids) // self.manager.block_size) - len(found)
        if missing > self.manager.available - sum(self.manager.is_idle(block) for block in found):
            return multiple()
        for block in found:
            self.manager.share(block)
            if block in self.cached:
                self.cached.remove(block)
        after = found[-1] if found else None
        writer = Writer(salt, [], salt_root(salt), found + self._allocate(missing, after, room))
        self.live.append(writer)
        for token in ids:
            self._write(writer, token)
        return writer

    def _look_up(self, salt: str, ids: list[int]) -> list[int]:
        size, digest, found = self.manager.block_size, salt_root(salt), list[int]()
        for start in range(0, len(ids) - size + 1, size):
            digest = chain(digest, ids[start : start + size])
            block = self.manager.find(digest)
            known = {content: block for block, content in self.content.items()}
            assert block == known.get((salt, tuple(ids[: start + size]))), "found what was not written, or not found"
            if block is None:
                break
            found.append(block)
        return found

    def _allocate(self, count: int, after: int | None, room: int) -> list[int]:
        cursor = self.manager._cursor if after is None else after + 1
        taken = self.manager.allocate(count, after, room)
        assert len(set(taken)) == count
        self._check_taken(set(taken), cursor)
        if len(self.free) == self.manager.total and count <= max(room, count) <= self.manager.total:
            assert all(right == left + 1 for left, right in pairwise(taken)), "no run although the pool is empty"
        self.free.difference_update(taken)
        self.cached = [block for block in self.cached if block not in taken]
        for block in taken:
            self.content.pop(block, None)
        return taken

    def _check_taken(self, taken: set[int], cursor: int) -> None:
        assert taken <= self.free | set(self.cached), "a block in use was handed out"
        evicted = taken & set(self.cached)
        assert not evicted or self.free <= taken, "content was lost although blocks were free"
        for age, block in enumerate(self.cached):
            if block in evicted and block != cursor and block - 1 not in taken:
                assert taken.issuperset(self.cached[:age]), "content was lost before older content"
        assert not self.cached or self.cached[-1] not in evicted or evicted == set(self.cached), "the newest was lost"

    @rule(writer=writers, token=st.integers(0, 1))
    def grow(self, writer: Writer, token: int) -> None:
        """One more token, if there is a block for it."""
        if len(writer.ids) == len(writer.blocks) * self.manager.block_size:
            if not self.manager.available:
                with pytest.raises(RuntimeError):
                    self.manager.allocate(1)
                return
            writer.blocks += self._allocate(1, writer.blocks[-1], 0)
        self._write(writer, token)

    def _write(self, writer: Writer, token: int) -> None:
        writer.ids.append(token)
        size = self.manager.block_size
        if len(writer.ids) % size:
            return
        block, content = writer.blocks[len(writer.ids) // size - 1], (writer.salt, tuple(writer.ids))
        writer.digest = chain(writer.digest, writer.ids[-size:])
        assert self.digests.setdefault(content, writer.digest) == writer.digest
        if content not in self.content.values():
            assert block not in self.content, "a full block is written again"
            self.content[block] = content
        self.manager.publish(block, writer.digest)

    @rule(writer=consumes(writers))
    def leave(self, writer: Writer) -> None:
        """All its blocks go; those that can be found stay known."""
        self.live.remove(writer)
        self.manager.release(writer.blocks)
        used = {block for other in self.live for block in other.blocks}
        idle = [block for block in writer.blocks if block not in used]
        self.cached += [block for block in reversed(idle) if block in self.content]
        self.free.update(block for block in idle if block not in self.content)

    @invariant()
    def the_books_are_right(self) -> None:
        self.manager.check_integrity(writer.blocks for writer in self.live)
        assert (self.manager.free, self.manager.cached) == (len(self.free), len(self.cached))
        assert self.manager.available == len(self.free) + len(self.cached)

    @invariant()
    def what_is_found_is_what_was_written(self) -> None:
        known = {content: block for block, content in self.content.items()}
        for content, digest in self.digests.items():
            assert self.manager.find(digest) == known.get(content)


TestBlocks = BlockMachine.TestCase
TestBlocks.settings = settings(max_examples=80, stateful_step_count=40)
