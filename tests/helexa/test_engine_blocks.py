"""The KV cache's books: what is found is what was written, what is taken is what nobody needs."""

import pytest

from helexa.engine.scheduling.blocks import BlockManager, chain, salt_root

ROOT = salt_root("")


def run_from(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def publish(manager: BlockManager, blocks: list[int], name: str = "") -> list[bytes]:
    """Make full blocks findable; their hashes."""
    digests = [chain(salt_root(name), [index]) for index in range(len(blocks))]
    for block, digest in zip(blocks, digests, strict=True):
        manager.publish(block, digest)
    return digests


# Hashes


def test_a_hash_depends_on_the_tokens_on_their_order_and_on_all_before_them() -> None:
    digests = [
        chain(ROOT, [1, 2]),
        chain(ROOT, [2, 1]),
        chain(chain(ROOT, [1, 2]), [1, 2]),
        chain(chain(ROOT, [2, 1]), [1, 2]),
        chain(chain(ROOT, [1]), [2]),
    ]
    assert len(set(digests)) == len(digests)
    assert chain(ROOT, [1, 2]) == chain(salt_root(""), (1, 2))


def test_two_tenants_never_have_the_same_hash() -> None:
    assert len({chain(salt_root(salt), [1, 2]) for salt in ("", "a", "b", "ab", "a" * 1000)}) == 5


def test_any_token_id_of_a_vocabulary_can_be_hashed() -> None:
    assert chain(ROOT, [0, 2**31, 2**40]) != chain(ROOT, [0, 2**31, 2**40 + 1])


# Where blocks come from


def test_a_sequence_gets_a_run_of_blocks_in_an_empty_pool() -> None:
    assert BlockManager(10, 4).allocate(7) == run_from(0, 7)


def test_the_next_sequence_begins_beyond_the_room_of_the_one_before_and_both_grow_in_a_row() -> None:
    manager = BlockManager(10, 4)
    first, second = manager.allocate(2, room=5), manager.allocate(2, room=4)
    assert (first, second) == ([0, 1], [5, 6])
    first += manager.allocate(1, after=first[-1])
    second += manager.allocate(1, after=second[-1])
    assert (first, second) == ([0, 1, 2], [5, 6, 7])


def test_a_sequence_that_would_run_over_the_end_of_an_empty_pool_begins_at_its_start() -> None:
    manager = BlockManager(10, 4)
    manager.release(manager.allocate(2, room=8))
    assert manager.allocate(5, room=6) == run_from(0, 5)


def test_a_sequence_that_would_run_over_the_end_stays_there_when_the_start_is_taken() -> None:
    manager = BlockManager(10, 4)
    manager.allocate(2, room=8)
    assert manager.allocate(2, room=6) == [8, 9]


@pytest.mark.parametrize("published", [False, True])
def test_a_run_that_was_let_go_is_handed_out_as_a_run_again(*, published: bool) -> None:
    manager = BlockManager(10, 4)
    manager.allocate(5, room=5)
    second = manager.allocate(5, room=5)
    if published:
        publish(manager, second)
    manager.release(second)
    assert manager.allocate(5) == run_from(5, 5)


def test_a_sequence_first_gets_its_neighbours_and_then_those_further_down() -> None:
    manager = BlockManager(10, 4)
    manager.release(manager.allocate(10)[:3])
    assert manager.available == 3
    manager.release([8, 9])
    assert manager.allocate(4, after=7) == [8, 9, 0, 1]


def test_free_blocks_go_before_cached_ones() -> None:
    manager = BlockManager(4, 4)
    blocks = manager.allocate(4)
    digests = publish(manager, blocks[:2])
    manager.release(blocks)
    assert (manager.free, manager.cached, manager.available) == (2, 2, 4)
    assert set(manager.allocate(2)) == {2, 3}
    assert [manager.find(digest) for digest in digests] == [0, 1]


def test_the_least_recently_used_content_goes_first() -> None:
    manager = BlockManager(3, 4)
    blocks = manager.allocate(3)
    digests = publish(manager, blocks)
    for block in (1, 0, 2):
        manager.release([block])
    manager.share(1)
    manager.release([1])  # used again: now the newest
    manager.allocate(1, after=9)
    assert [manager.find(digest) for digest in digests] == [None, 1, 2]
    manager.allocate(1, after=9)
    assert [manager.find(digest) for digest in digests] == [None, 1, None]


def test_the_end_of_a_prompt_goes_before_its_beginning() -> None:
    manager = BlockManager(3, 4)
    blocks = manager.allocate(3)
    digests = publish(manager, blocks)
    manager.release(blocks)
    manager.allocate(1, after=9)
    assert [manager.find(digest) is None for digest in digests] == [False, False, True]


def test_an_old_neighbour_goes_before_older_content_elsewhere() -> None:
    manager = BlockManager(6, 4)
    blocks = manager.allocate(6)
    publish(manager, blocks)
    for block in (5, 3, 1, 2, 4):
        manager.release([block])
    assert manager.allocate(1, after=2) == [3]


def test_a_recently_used_neighbour_is_left_alone() -> None:
    manager = BlockManager(6, 4)
    blocks = manager.allocate(6)
    publish(manager, blocks)
    for block in (5, 1, 2, 3):
        manager.release([block])
    assert manager.allocate(1, after=2) == [5]


def test_more_blocks_than_are_available_are_refused_and_nothing_is_taken() -> None:
    manager = BlockManager(3, 4)
    held = manager.allocate(2)
    with pytest.raises(RuntimeError, match="2 blocks wanted, 1 available"):
        manager.allocate(2)
    manager.check_integrity([held])


def test_a_pool_can_be_used_to_its_last_block() -> None:
    manager = BlockManager(3, 4)
    publish(manager, manager.allocate(3))
    assert (manager.free, manager.cached, manager.available) == (0, 0, 0)
    assert manager.allocate(0) == []


# Sharing


def test_a_block_in_use_keeps_its_content_until_its_last_user_is_gone() -> None:
    manager = BlockManager(2, 4)
    (block,) = manager.allocate(1)
    (digest,) = publish(manager, [block])
    manager.share(block)
    manager.release([block])
    assert not manager.is_idle(block)
    assert manager.allocate(1) == [1]
    assert manager.available == 0
    manager.release([block])
    assert manager.is_idle(block)
    assert manager.find(digest) == block
    assert manager.allocate(1) == [block]
    assert manager.find(digest) is None


def test_a_cached_block_that_is_shared_is_not_available_any_more() -> None:
    manager = BlockManager(2, 4)
    (block,) = manager.allocate(1)
    publish(manager, [block])
    manager.release([block])
    manager.share(block)
    manager.check_integrity([[block]])
    assert manager.available == 1


def test_of_two_blocks_with_the_same_content_the_first_stays_and_the_second_is_freed() -> None:
    manager = BlockManager(2, 4)
    first, second = manager.allocate(2)
    (digest,) = publish(manager, [first])
    manager.publish(second, digest)
    assert manager.find(digest) == first
    manager.release([first, second])
    assert (manager.free, manager.cached) == (1, 1)
    assert manager.find(digest) == first


def test_publishing_a_block_twice_changes_nothing() -> None:
    manager = BlockManager(2, 4)
    blocks = manager.allocate(1)
    assert publish(manager, blocks) == publish(manager, blocks)
    manager.check_integrity([blocks])


# The check itself


def held(manager: BlockManager) -> list[int]:
    """Four blocks in use, two cached, two free."""
    blocks = manager.allocate(8)
    publish(manager, blocks[:6])
    manager.release(blocks[4:])
    return blocks[:4]


def test_the_check_passes_sound_books() -> None:
    manager = BlockManager(8, 4)
    manager.check_integrity([held(manager)])


def test_the_check_finds_a_table_with_a_block_that_is_not_its_own() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    with pytest.raises(RuntimeError, match="block 6 has 1 users and 0 references"):
        manager.check_integrity([[*table, 6]])


def test_the_check_finds_a_block_that_nobody_let_go() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    with pytest.raises(RuntimeError, match="block 3 has 0 users and 1 references"):
        manager.check_integrity([table[:3]])


def test_the_check_finds_a_lost_block() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    del manager._free[7]
    with pytest.raises(RuntimeError, match=r"\[4, 1, 2\] blocks used, free, cached of 8"):
        manager.check_integrity([table])


def test_the_check_finds_a_block_in_two_states() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    del manager._free[7]
    manager._free[5] = None
    with pytest.raises(RuntimeError, match=r"\[4, 2, 2\] blocks used, free, cached of 8"):
        manager.check_integrity([table])


def test_the_check_finds_hashes_that_lead_astray() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    manager._hashes[0], manager._hashes[1] = manager._hashes[1], manager._hashes[0]
    with pytest.raises(RuntimeError, match="a hash leads to a block that does not have it"):
        manager.check_integrity([table])


def test_the_check_finds_content_among_the_free_blocks() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    manager.publish(7, b"x")
    with pytest.raises(RuntimeError, match="a free block has a hash"):
        manager.check_integrity([table])


def test_the_check_finds_nothing_among_the_cached_blocks() -> None:
    manager = BlockManager(8, 4)
    table = held(manager)
    manager._forget(5)
    with pytest.raises(RuntimeError, match="a cached block has no hash"):
        manager.check_integrity([table])
