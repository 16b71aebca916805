"""Collectives: the same bits on each rank, on the intended address alone, and none that waits for ever."""

import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from time import monotonic
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from rank_threads import CPU, Ranks

from helexa.engine.parallel.control import WEDGED
from helexa.engine.parallel.group import (
    GlooGroup,
    form,
    interface_of,
    lead_store,
    member_store,
    store_listener,
)


@pytest.fixture(scope="module")
def three() -> Iterator[Ranks]:
    ranks = Ranks(3)
    yield ranks
    ranks.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_rank_gets_the_same_sum(three: Ranks, dtype: torch.dtype) -> None:
    parts = [torch.randn(7, 33, generator=torch.Generator().manual_seed(rank)).to(dtype) for rank in range(3)]
    exact = sum(part.float() for part in parts)
    sums = three.each(lambda rank: three.collectives[rank].reduce(parts[rank].clone()))
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])
    torch.testing.assert_close(sums[0].float(), exact, rtol=2e-2, atol=2e-2)


def test_a_row_of_a_sum_does_not_depend_on_the_rows_beside_it(three: Ranks) -> None:
    parts = [torch.randn(9, 65, generator=torch.Generator().manual_seed(rank)).bfloat16() for rank in range(3)]
    whole = three.each(lambda rank: three.collectives[rank].reduce(parts[rank].clone()))[0]
    for row in range(9):
        alone = three.each(lambda rank, row=row: three.collectives[rank].reduce(parts[rank][row].clone()))[0]
        assert torch.equal(alone, whole[row])


def test_the_first_rank_gets_all_parts_side_by_side(three: Ranks) -> None:
    parts = [torch.arange(6.0).view(2, 3) + 100 * rank for rank in range(3)]
    found = three.each(lambda rank: three.collectives[rank].gather(parts[rank]))
    assert torch.equal(found[0], torch.cat(parts, dim=1))


def test_a_part_need_not_be_contiguous(three: Ranks) -> None:
    found = three.each(lambda rank: three.collectives[rank].gather(torch.full((4, 2), float(rank)).t()))
    assert found[0].tolist() == [[0.0] * 4 + [1.0] * 4 + [2.0] * 4] * 2


def listeners() -> set[str]:
    """Addresses on which this process listens."""
    found = psutil.Process().net_connections("inet")
    return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}


def formed(addresses: list[str]) -> None:
    """A group over these addresses, one per rank; and one sum, to be sure of it."""
    listener = store_listener(addresses[0])
    place, ranks = listener.getsockname(), len(addresses)
    stores: list[dist.Store] = [lead_store(listener, ranks), *(member_store(place, ranks) for _ in addresses[1:])]
    sums: SimpleQueue[float] = SimpleQueue()

    def run(rank: int) -> None:
        group = form(rank, ranks, CPU, stores[rank], addresses[rank], patience=20)
        sums.put(float(group.reduce(torch.ones(1))))
        assert listeners() <= set(addresses)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for each in threads:
        each.start()
    assert [sums.get(timeout=20) for _ in threads] == [float(ranks)] * ranks
    for each in threads:
        each.join()


def test_nothing_listens_on_another_address_than_the_intended_ones() -> None:
    before = listeners()
    formed(["127.0.0.1", "127.0.0.2"])
    assert listeners() - before <= {"127.0.0.1", "127.0.0.2"}


def test_a_collective_that_wedges_is_given_up_within_the_patience() -> None:
    broken: SimpleQueue[tuple[str, int]] = SimpleQueue()
    ranks = Ranks(2, patience=0.5)
    try:
        group = ranks.collectives[0]
        began = monotonic()
        ranks.each(lambda rank: with_end(group, broken).reduce(torch.ones(8)) if rank == 0 else None)
        reason, code = broken.get(timeout=5)
    finally:
        ranks.close()
    assert (reason, code) == ("a collective failed: another rank took more than 1 s", WEDGED)
    assert monotonic() - began < 3


def with_end(group: Any, broken: "SimpleQueue[tuple[str, int]]") -> GlooGroup:
    def end(reason: str, code: int) -> None:
        broken.put((reason, code))

    return GlooGroup(group.rank, group.ranks, group._group, group._patience, end)


def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") in dict(psutil.net_if_addrs())


def test_an_address_of_no_interface_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no network interface of this host has the address 203\.0\.113\.7"):
        interface_of("203.0.113.7")


def test_the_store_listens_on_its_address_alone() -> None:
    listener = store_listener("127.0.0.3")
    port = listener.getsockname()[1]
    store = lead_store(listener, 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    socket.create_connection(("127.0.0.3", port), timeout=5).close()
    del store
