"""What a model itself thought of the tokens that were picked, and of the likeliest others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from helexa.engine.protocol import TokenLogprob
from helexa.engine.sampling.drawing import candidates

_WIDTH = 32
"""Candidates looked at per row: more than anyone may ask for, so that ties at the last one asked for are seen."""

Top = list[tuple[int, float]]


def logprobs(logits: Tensor, picked: Sequence[int], tops: Sequence[int]) -> list[TokenLogprob]:
    """Natural logarithms of the probabilities at temperature 1.

    Args:
        logits: ``[rows, vocabulary]`` as the model gave them, all numbers.
        picked: one token per row.
        tops: how many of the likeliest are reported, per row; of equal ones the lower id first.
    """
    logits = logits.float()
    table = torch.log_softmax(logits, dim=-1)
    of_picked = table.gather(-1, torch.tensor(picked, device=table.device).unsqueeze(-1)).squeeze(-1).tolist()
    likeliest = _likeliest(logits, table, tops)
    return [TokenLogprob(own, top) for own, top in zip(of_picked, likeliest, strict=True)]


def _likeliest(logits: Tensor, table: Tensor, tops: Sequence[int]) -> list[Top]:
    if not any(tops):
        return [[] for _ in tops]
    _, tokens, known = candidates(logits, max(_WIDTH, max(tops) + 1))
    ids, certain = tokens.tolist(), known.sum(dim=-1).tolist()
    values = table.gather(-1, tokens).tolist()
    return [
        _pairs(ids[row], values[row], top) if top <= certain[row] else _sorted(table[row], top)
        for row, top in enumerate(tops)
    ]


def _sorted(table: Tensor, top: int) -> Top:
    """From one row sorted whole: there are so many ties at the last place that the candidates do not settle them."""
    values, tokens = torch.sort(table, descending=True, stable=True)
    return _pairs(tokens[:top].tolist(), values[:top].tolist(), top)


def _pairs(tokens: list[int], values: list[float], top: int) -> Top:
    # What is impossible has no logarithm that JSON could carry.
    return [(token, value) for token, value in zip(tokens[:top], values[:top], strict=True) if value > -torch.inf]
