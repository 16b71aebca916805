"""Which tokens grammars allow next, for all rows of a step that have one, and onto their logits."""

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from numpy.typing import NDArray
from torch import Tensor

_MOST_THREADS = 8

Mask = NDArray[np.int32]
"""One bit for each token of the vocabulary, the lowest first."""


class MaskFiller:
    """Asks matchers for their masks and tells them the tokens, several at once and without the interpreter lock.

    Owns the library's threads; there are none before the first mask.

    Args:
        vocabulary: width of the logits, and of the tokenizer that the matchers were made with.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._threads: LLExecutor | None = None

    def fill(self, matchers: Sequence[LLMatcher]) -> list[Mask]:
        """What each allows next; of one that has come to its end, the end-of-sequence ids. May put any in error."""
        masks = allocate_token_bitmask(len(matchers), self._vocabulary)
        if matchers:
            fill_next_token_bitmask_par(self._executor, [(each, row) for row, each in enumerate(matchers)], masks)
        return list(masks)

    def consume(self, picked: Sequence[tuple[LLMatcher, int]]) -> None:
        """Advance each matcher by its token. May put any in error."""
        if picked:
            self._executor.consume_token_par(list(picked))

    @property
    def _executor(self) -> LLExecutor:
        if self._threads is None:
            self._threads = LLExecutor(num_threads=max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2)))
        return self._threads


def allows_only(mask: Mask, tokens: Iterable[int]) -> bool:
    """Whether a mask allows nothing but some of these tokens."""
    left = mask.view(np.uint32).copy()
    for token in tokens:
        left[token // 32] &= ~np.uint32(1 << token % 32)
    return not left.any()


def forbid(logits: Tensor, masks: Sequence[Mask | None]) -> None:
    """Set the logits of what masks do not allow to minus infinity, in place.

    Args:
        logits: float ``[rows, vocabulary]``.
        masks: one per row; ``None`` allows everything.
    """
    words = (logits.shape[1] + 31) // 32
    everything = np.full(words, -1, dtype=np.int32)
    packed = np.stack([everything if mask is None else mask for mask in masks]).view(np.uint8)
    packed_on_device = torch.from_numpy(packed).to(logits.device)
    shifts = torch.arange(8, dtype=torch.uint8, device=logits.device)
    bits = (packed_on_device.unsqueeze(-1) >> shifts) & 1
    logits.masked_fill_(bits.flatten(1)[:, : logits.shape[1]] == 0, -torch.inf)
