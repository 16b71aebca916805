"""Picking the next token for every row of a batch at once.

Each row draws from a generator of its own, so a seeded request gets the same tokens whatever else is in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from helexa.wire.sampling import SamplingParams


def sample(logits: Tensor, params: Sequence[SamplingParams], generators: Sequence[torch.Generator]) -> list[int]:
    """Pick one token per row.

    Args:
        logits: ``[rows, vocabulary]``, any float dtype, any device.
        params: one per row.
        generators: one per row, on the CPU; advanced by one draw for rows with a temperature.

    Returns:
        ``rows`` token ids.
    """
    greedy = logits.argmax(dim=-1).tolist()
    warm = [row for row, each in enumerate(params) if each.temperature > 0]
    if warm:
        drawn = _draw(logits[warm].float(), [params[row] for row in warm], [generators[row] for row in warm])
        for row, token in zip(warm, drawn.tolist(), strict=True):
            greedy[row] = token
    return [int(token) for token in greedy]


def _draw(logits: Tensor, params: Sequence[SamplingParams], generators: Sequence[torch.Generator]) -> Tensor:
    """Inverse-CDF sampling over the sorted, truncated distribution. ``logits`` is ``[rows, vocabulary]`` float32."""
    device = logits.device
    temperature = torch.tensor([each.temperature for each in params], device=device).clamp_min(1e-3)
    # stable: bf16 logits are full of ties, whose order would otherwise be the kernel's, and so the batch's, to choose
    ranked = torch.softmax(logits / temperature[:, None], dim=-1).sort(dim=-1, descending=True, stable=True)
    probabilities, order = ranked
    kept = probabilities * _keep(probabilities, params)
    cumulative = kept.cumsum(dim=-1)
    uniform = torch.tensor([torch.rand((), generator=each).item() for each in generators], device=device)
    # right=True: a draw of exactly 0 must not land on a row's first bin if that bin is empty.
    picks = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    # Rounding can carry a draw past the last kept bin; the count of kept bins bounds it.
    # It is 0 where a broken model's logits are not numbers: such a row gets some token, and the others live on.
    last = (kept > 0).sum(dim=-1, keepdim=True).clamp_min(1) - 1
    return order.gather(1, torch.minimum(picks, last)).squeeze(1)


def _keep(probabilities: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Which of the sorted candidates stay: a boolean ``[rows, vocabulary]``; the best one always does."""
    device = probabilities.device
    rank = torch.arange(probabilities.shape[-1], device=device)[None, :]
    top_k = torch.tensor([each.top_k or probabilities.shape[-1] for each in params], device=device)[:, None]
    top_p = torch.tensor([each.top_p for each in params], device=device)[:, None]
    min_p = torch.tensor([each.min_p for each in params], device=device)[:, None]
    in_top_k = rank < top_k
    cumulative = (probabilities * in_top_k).cumsum(dim=-1)
    # top_p is a share of what top_k has left, as everywhere else.
    # top_p of exactly 1 keeps everything: float rounding in the sum must not cut the tail.
    nucleus = (cumulative - probabilities < top_p * cumulative[:, -1:]) | (top_p >= 1)
    keep = nucleus & in_top_k & (probabilities >= min_p * probabilities[:, :1])
    return keep | (rank == 0)
