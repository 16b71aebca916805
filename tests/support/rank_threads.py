"""Ranks of a group as threads of the test: real collectives between them, and no processes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from architectures import BLOCK
from torch import Tensor

from helexa.engine.networks.runner import PagedRunner
from helexa.engine.parallel.group import Collectives, form
from helexa.engine.parallel.network import ParallelNetwork
from helexa.engine.quant.formats import Quant
from helexa.engine.scheduling.plan import StepPlan

T = TypeVar("T")
CPU = torch.device("cpu")


class Ranks:
    """So many threads, each with its collectives. To be closed."""

    def __init__(self, count: int, patience: float = 20.0) -> None:
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]
        store = dist.HashStore()
        self.collectives: list[Collectives] = self.each(
            lambda rank: form(rank, count, CPU, store, "127.0.0.1", patience=patience)
        )

    def each(self, work: Callable[[int], T]) -> list[T]:
        """What each rank makes of its number, at the same time."""
        running = [thread.submit(work, rank) for rank, thread in enumerate(self._threads)]
        return [each.result(60) for each in running]

    def start(self, rank: int, work: Callable[[], T]) -> "Future[T]":
        """Something that one rank does while the others do something else."""
        return self._threads[rank].submit(work)

    def close(self) -> None:
        for thread in self._threads:
            thread.shutdown()


class ShardedRunner:
    """A model run by all ranks; for `architectures.Greedy`."""

    reuses_prefixes = True

    def __init__(self, ranks: Ranks, make: Callable[[], Any], quant: Quant | None = None, blocks: int = 200) -> None:
        self._ranks, self._quant = ranks, quant
        # here and not in the threads: torch's generator is one for all of them
        self._modules = [make() for _ in ranks.collectives]
        self.networks = ranks.each(self._network)
        self._runners = [PagedRunner(network, CPU, blocks, BLOCK) for network in self.networks]
        self.vocabulary = self.networks[0].vocabulary

    @torch.inference_mode()
    def _network(self, rank: int) -> ParallelNetwork:
        return ParallelNetwork(self._modules[rank], self._ranks.collectives[rank], self._quant)

    def forward(self, plan: StepPlan) -> Tensor:
        return self._ranks.each(lambda rank: self._runners[rank].forward(plan))[0]

    def forget(self, number: int) -> None:
        pass
