"""The forward pass: a step plan in, logits out. Which way a model is run is decided here, once, when it is loaded."""

from typing import Any, Protocol

import structlog
import torch
from torch import Tensor

from helexa.engine.networks.attention import HeadMajorCache
from helexa.engine.networks.flash import FlashCache, can_flash
from helexa.engine.networks.generic import NotPagedError, TransformersNetwork
from helexa.engine.networks.graphs import DecodeGraphs
from helexa.engine.networks.native import NativeNetwork, is_native
from helexa.engine.networks.ports import Network
from helexa.engine.scheduling.batch import Batch
from helexa.engine.scheduling.plan import StepPlan

_log = structlog.get_logger()


class Runner(Protocol):
    """Runs one model.

    Attributes:
        vocabulary: width of the logits.
        reuses_prefixes: blocks may be shared between sequences.
    """

    vocabulary: int
    reuses_prefixes: bool

    def forward(self, plan: StepPlan) -> Tensor:
        """``[rows, vocabulary]``: the logits that are wanted, chunk by chunk.

        Of a chunk, those after its ``scored`` tokens first, then the one that is ``due``.
        """

    def forget(self, number: int) -> None:
        """A sequence has ended, or will start over."""


class PagedRunner:
    """One forward pass per step over the flattened batch, whatever it holds.

    Args:
        network: the model.
        device: where it is.
        blocks: KV blocks.
        block_size: tokens per block.
    """

    reuses_prefixes = True

    def __init__(self, network: Network, device: torch.device, blocks: int, block_size: int) -> None:
        self._network = network
        self._device = device
        self._blocks, self._block_size = blocks, block_size
        self._cache = make_cache(network, device, blocks, block_size)
        self._graphs: DecodeGraphs | None = None
        self.vocabulary = network.vocabulary

    @torch.inference_mode()
    def capture(self, running: int, longest: int) -> None:
        """Record CUDA graphs of decode steps, where the device and the model allow it.

        Args:
            running: sequences of the largest batch.
            longest: tokens of the longest context.
        """
        if isinstance(self._cache, FlashCache):
            self._graphs = DecodeGraphs(self._network, self._cache, running, longest, spare=self._blocks)
            self._graphs.capture()

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> Tensor:
        """``[rows, vocabulary]``: the logits that are wanted; see ``Runner``."""
        if self._graphs is not None and (logits := self._graphs.run(plan)) is not None:
            return logits
        batch = Batch.of(plan, self._block_size, self._device)
        return self._network.logits(batch, self._cache.attend)

    def forget(self, number: int) -> None:
        """Nothing is kept per sequence: the blocks are the scheduler's."""


def make_cache(network: Network, device: torch.device, blocks: int, block_size: int) -> FlashCache | HeadMajorCache:
    """The KV cache in the layout that the device's attention kernel reads."""
    if network.plain and can_flash(device, network.dtype, network.layers):
        # One block more than the scheduler knows of, for what pads a captured batch.
        return FlashCache(network.layers, blocks + 1, block_size, network.dtype, device)
    return HeadMajorCache(network.layers, blocks * block_size, network.dtype, device)


@torch.inference_mode()
def make_network(module: Any) -> Network | None:
    """How a model of transformers is run over the paged cache; ``None`` if only one sequence at a time is right."""
    if is_native(module):
        return NativeNetwork(module)
    own = module.config._attn_implementation  # noqa: SLF001 - transformers has no public way to ask
    try:
        return TransformersNetwork(module)
    except NotPagedError as error:
        _log.warning("model.not_paged", reason=str(error), consequence="sequences run one by one")
        module.set_attn_implementation(own)  # not "sdpa" for all: some models do not know it
        return None
