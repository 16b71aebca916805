"""The collectives of a group of ranks: NCCL between GPUs, Gloo between CPUs.

The process groups are made directly, and not by ``torch.distributed.init_process_group``: that takes the interface to
listen on from an environment variable, or asks the system for the host's name and listens wherever this resolves to.
Gloo's device is bound to one address here. The store listens on a socket that is bound before it gets it: by itself
it would listen on every interface of the host.
"""

import os
import socket
from collections.abc import Callable, Iterable
from datetime import timedelta
from time import monotonic
from typing import Any, Final, Protocol

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from helexa.engine.parallel.control import GONE, WEDGED, leave

_torch: Any = dist
"""Untyped: torch's types do not export what its module does."""
Store = Any
"""``torch.distributed.Store``."""
_FORM_SECONDS: Final = 60.0
_EARLY: Final = 0.95
"""Of the patience: clocks of two threads differ."""
_TWO: Final = 2


class Collectives(Protocol):
    """What the ranks of a group do together. Each rank has to call the same, in the same order."""

    rank: int
    ranks: int

    def reduce(self, x: Tensor) -> Tensor:
        """The sum of all ranks' ``x``, the same bits on each; may be made in place."""

    def gather(self, x: Tensor) -> Tensor:
        """On rank 0, all ranks' ``x`` side by side in the last dimension; on the others, anything."""


class _Guarded:
    """Waits for collectives, and ends the process, by ``broken``, when one fails.

    Args:
        rank: of this process.
        ranks: how many there are.
        group: of torch.
        patience: seconds that a collective may take.
        broken: told why a collective failed, and with which exit code to end; does not return.
    """

    def __init__(
        self, rank: int, ranks: int, group: Any, patience: float, broken: Callable[[str, int], object] = leave
    ) -> None:
        self.rank, self.ranks = rank, ranks
        self._group, self._patience, self._broken = group, patience, broken

    def _wait(self, start: Callable[[], Iterable[Any]]) -> None:
        """For what ``start`` begins, all of it at once."""
        began = monotonic()
        try:
            for work in start():
                work.wait()
        except RuntimeError as error:
            taken = monotonic() - began
            late = taken > self._patience * _EARLY
            reason = f"another rank took more than {taken:.0f} s" if late else str(error).partition("\n")[0]
            self._broken(f"a collective failed: {reason}", WEDGED if late else GONE)


class GlooGroup(_Guarded):
    """Between CPUs: each rank sends its part to each other, and adds the parts up in the order of the ranks.

    Gloo's own all-reduce takes 360 µs for 8 KiB between two processes of one host, where this takes 100, and a decode
    has two of them per layer; and it adds up in an order that depends on where in the tensor a number is, so that with
    three ranks and more a sequence's tokens would depend on its neighbours in the batch.
    """

    def reduce(self, x: Tensor) -> Tensor:
        """The sum of all ranks' ``x``, made in float32 and rounded once."""
        x = x.contiguous()
        parts = [x if rank == self.rank else torch.empty_like(x) for rank in range(self.ranks)]
        self._wait(lambda: [*self._sends(x, self._others), *self._receives(parts)])
        if self.ranks == _TWO:  # one operation, which rounds once as well
            return parts[0] + parts[1]
        total = parts[0].to(torch.float32, copy=True)
        for part in parts[1:]:
            total += part
        return total.to(x.dtype)

    def gather(self, x: Tensor) -> Tensor:
        """On rank 0, all ranks' ``x`` side by side in the last dimension; on the others, their own."""
        x = x.contiguous()
        if self.rank:
            self._wait(lambda: self._sends(x, [0]))
            return x
        parts = [x, *(torch.empty_like(x) for _ in self._others)]
        self._wait(lambda: self._receives(parts))
        return torch.cat(parts, dim=-1)

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.ranks) if rank != self.rank]

    def _sends(self, x: Tensor, to: Iterable[int]) -> list[Any]:
        return [self._group.send([x], rank, 0) for rank in to]

    def _receives(self, parts: list[Tensor]) -> list[Any]:
        return [self._group.recv([parts[rank]], rank, 0) for rank in self._others]


class NcclGroup(_Guarded):
    """Between GPUs: NCCL's collectives, which the GPUs carry out when they come to them."""

    def reduce(self, x: Tensor) -> Tensor:
        """The sum of all ranks' ``x``; in place."""
        self._wait(lambda: [self._group.allreduce([x])])
        return x

    def gather(self, x: Tensor) -> Tensor:
        """All ranks' ``x`` side by side in the last dimension; on every rank, which costs no more time."""
        parts = [torch.empty_like(x) for _ in range(self.ranks)]
        self._wait(lambda: [self._group.allgather([parts], [x.contiguous()])])
        return torch.cat(parts, dim=-1)


def form(  # noqa: PLR0913 - what tells one rank of one group from all others
    rank: int, ranks: int, device: torch.device, store: Store, own: str, *, patience: float
) -> Collectives:
    """Make the process group; returns when all ranks have.

    Args:
        rank: of this process.
        ranks: how many there are.
        device: what this rank computes on; the same kind on all.
        store: where the ranks find each other's addresses.
        own: this host's address that the others reach it by; nothing listens on any other.
        patience: seconds that a collective may take.

    Raises:
        RuntimeError: the ranks do not find each other.
    """
    if device.type == "cuda":
        return NcclGroup(rank, ranks, _nccl(rank, ranks, store, own, patience), patience)
    return GlooGroup(rank, ranks, _gloo(rank, ranks, store, own, patience), patience)


def _gloo(rank: int, ranks: int, store: Store, own: str, patience: float) -> Any:
    kind = _torch.ProcessGroupGloo
    options = kind._Options()  # noqa: SLF001 - its public way takes the address from the environment
    options._timeout = timedelta(seconds=patience)  # noqa: SLF001 - likewise
    options._devices = [kind.create_device(hostname=own)]  # noqa: SLF001 - likewise
    return kind(store, rank, ranks, options)


def _nccl(rank: int, ranks: int, store: Store, own: str, patience: float) -> Any:
    """NCCL's watchdog ends the process when a collective takes too long: its ``wait`` waits for a stream alone."""
    os.environ["NCCL_SOCKET_IFNAME"] = "=" + interface_of(own)
    os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "3"
    kind = _torch.ProcessGroupNCCL
    options = kind.Options()
    options._timeout = timedelta(seconds=patience)  # noqa: SLF001 - as the public constructor of torch does
    return kind(store, rank, ranks, options)


def interface_of(address: str) -> str:
    """The network interface that has an address.

    Raises:
        ValueError: none of this host's has it.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    raise ValueError(f"no network interface of this host has the address {address}")


def store_listener(own: str) -> socket.socket:
    """Where the store of a group is to listen: a free port of one address."""
    return socket.create_server((own, 0), family=_family(own))


def lead_store(listener: socket.socket, ranks: int) -> Store:
    """The store on the first rank; it takes the listener over."""
    host, port = listener.getsockname()[:2]
    wait = timedelta(seconds=_FORM_SECONDS)
    # not _torch.TCPStore(host, port): it listens on all interfaces, whatever the host
    return _torch.TCPStore(host, port, ranks, True, wait, wait_for_workers=False, master_listen_fd=listener.detach())


def member_store(address: tuple[str, int], ranks: int) -> Store:
    """The store as another rank sees it."""
    return _torch.TCPStore(*address, ranks, False, timedelta(seconds=_FORM_SECONDS), wait_for_workers=False)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
