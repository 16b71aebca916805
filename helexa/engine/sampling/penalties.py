"""What a request does to the logits of single tokens: penalties, biases, and stop ids that are not due yet.

Kept per sequence and per token concerned, and updated with each token that is generated, so that a step costs what
tokens it touches and not what the vocabulary has.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from helexa.wire.sampling import SamplingParams

_TOKEN, _FACTOR, _SHIFT = range(3)
_NO_PENALTIES: tuple[float, float, float] = (1, 0, 0)  # repetition, presence, frequency
_SPARE = 16


class Adjustments:
    """One sequence's factor and shift for each token that has any.

    Repetition penalty (Keskar et al. 2019, https://arxiv.org/abs/1909.05858, section 4.1, signs as commonly mended):
    positive logits are divided by it, negative ones multiplied, for tokens of the prompt and the output. Presence and
    frequency penalties (OpenAI API reference) are subtracted for tokens of the output.

    Args:
        params: of the request.
        prompt_ids: all below ``vocabulary``.
        vocabulary: width of the logits; stop ids beyond it are ignored.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], vocabulary: int) -> None:
        self._params = params
        self._penalties = params.repetition_penalty, params.presence_penalty, params.frequency_penalty
        self._table, self._slots = _of_prompt(params, prompt_ids)
        self._generated: set[int] = set()
        self._count = 0
        for token, bias in params.logit_bias:
            slot = self._slot(token)  # first: it may put a larger table in place
            self._table[_SHIFT, slot] += bias
        self._held = self._hold(vocabulary)

    @property
    def active(self) -> bool:
        """Whether there is anything to adjust in the next step."""
        lasting = self._penalties != _NO_PENALTIES or bool(self._params.logit_bias)
        return bool(self._held) or (lasting and bool(self._slots))

    @property
    def held(self) -> frozenset[int]:
        """The stop ids that cannot be picked in the next step."""
        return self._held

    def add(self, token: int) -> None:
        """Take note of a generated token."""
        self._count += 1
        if self._held and self._count >= self._params.min_tokens:
            self._held = frozenset()
        self._penalise(token)

    def columns(self, row: int, *, hold: bool = True) -> NDArray[np.float64]:
        """Row, token id, factor and shift of each token concerned: ``[4, tokens]``.

        Args:
            row: the sequence's place among the logits.
            hold: whether stop ids that are not due yet are ruled out.
        """
        found = np.insert(self._table[:, : len(self._slots)], 0, row, axis=0)
        if hold:
            found[3, [self._slots[token] for token in self._held]] = -np.inf
        return found

    def _hold(self, vocabulary: int) -> frozenset[int]:
        stops = self._params.stop_token_ids if self._params.min_tokens > 0 else ()
        held = frozenset(token for token in stops if 0 <= token < vocabulary)
        for token in held:
            self._slot(token)
        return held

    def _penalise(self, token: int) -> None:
        if self._penalties == _NO_PENALTIES:
            return
        repetition, presence, frequency = self._penalties
        slot = self._slot(token)
        self._table[_FACTOR, slot] = repetition
        self._table[_SHIFT, slot] -= frequency if token in self._generated else frequency + presence
        self._generated.add(token)

    def _slot(self, token: int) -> int:
        slot = self._slots.get(token)
        if slot is None:
            slot = self._slots[token] = len(self._slots)
            if slot == self._table.shape[1]:
                self._table = np.concatenate([self._table, np.empty_like(self._table)], axis=1)
            self._table[:, slot] = token, 1, 0
        return slot


def adjust(logits: Tensor, columns: Sequence[NDArray[np.float64]]) -> None:
    """Adjust logits in place.

    Args:
        logits: float32 ``[rows, vocabulary]``.
        columns: of ``Adjustments``, of different rows.
    """
    table = torch.from_numpy(np.concatenate(columns, axis=1)).to(logits.device)
    where = table[0].long(), table[1].long()
    factor, shift = table[2].float(), table[3].float()
    values = logits[where]
    logits[where] = torch.where(values > 0, values / factor, values * factor) + shift


def _of_prompt(params: SamplingParams, prompt_ids: Sequence[int]) -> tuple[NDArray[np.float64], dict[int, int]]:
    """The table and its slots at the start: a prompt of many thousand tokens counts only if it is penalised."""
    tokens = np.unique(np.asarray(prompt_ids, dtype=np.int64)) if params.repetition_penalty != 1 else np.empty(0)
    table = np.zeros((3, tokens.size + _SPARE))
    table[_TOKEN, : tokens.size] = tokens
    table[_FACTOR, : tokens.size] = params.repetition_penalty
    return table, {int(token): slot for slot, token in enumerate(tokens)}
