"""The forward pass: token ids in, logits of the next token out."""

from collections.abc import Iterable

import torch
from torch import Tensor

from helexa.engine.loading import LoadedModel
from helexa.engine.sequence import Sequence

PREFILL_CHUNK = 512
"""Tokens of a prompt computed per step, so that an abort or another request waits for one chunk, not one prompt."""


class Runner:
    """Runs one model. Every sequence has a KV cache of its own, so none sees another's tokens or padding.

    One forward per sequence and step: simple and exact. A flattened batch over paged blocks is faster and is what grows
    here; the step loop above it stays.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @torch.inference_mode()
    def step(self, sequences: Iterable[Sequence]) -> tuple[list[Sequence], Tensor | None]:
        """Advance each sequence by one chunk of its prompt or by one token.

        Returns:
            The sequences whose next token is due, and their logits ``[len, vocabulary]``, ``None`` without any.
        """
        due, rows = [], []
        for sequence in sequences:
            logits = self._forward(sequence)
            if sequence.computed == len(sequence.ids):
                due.append(sequence)
                rows.append(logits)
        return due, torch.stack(rows) if rows else None

    def _forward(self, sequence: Sequence) -> Tensor:
        """Logits ``[vocabulary]`` after the chunk's last token."""
        from transformers import DynamicCache

        if sequence.cache is None:
            sequence.cache = DynamicCache(config=self._model.module.config)
        chunk = sequence.ids[sequence.computed : sequence.computed + PREFILL_CHUNK]
        ids = torch.tensor([chunk], device=self._model.device)
        output = self._model.module(ids, past_key_values=sequence.cache, use_cache=True, logits_to_keep=1)
        sequence.computed += len(chunk)
        logits: Tensor = output.logits[0, -1]
        return logits
