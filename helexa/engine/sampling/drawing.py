"""Drawing tokens from rows of logits: tensors in, tensors out, no state.

A row's token must not depend on what else is in the batch, to the last bit. Sums of floats would make it: a device adds
in an order that depends on the shape of the whole. So probabilities are made whole numbers first, element by element,
and all that follows adds whole numbers, whose sum is the same in any order.
"""

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct

import torch
from attrs import frozen
from torch import Tensor

WIDTH = 128
"""Candidates looked at per row before its whole vocabulary is sorted."""

BROKEN, SHORT = -1, -2
"""In place of a token: the row's logits are no numbers; the row needs more than ``WIDTH`` candidates."""

_ONE = 2.0**40  # weight of the likeliest token; an int64 holds the sum of 2**22 of them
_LEAST_TEMPERATURE = 1e-6
_COUNTER = Struct("<QQ")
_MASK = 2**64 - 1


@frozen
class RowSettings:
    """How one row is to be drawn; ``uniform`` in [0, 1) decides which token it is, the others as in SamplingParams."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    uniform: float


@frozen(eq=False)
class Settings:
    """``RowSettings`` of several rows: tensors ``[rows, 1]`` on the logits' device."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    uniform: Tensor
    some_min_p: bool

    @classmethod
    def of(cls, rows: Sequence[RowSettings], device: torch.device) -> "Settings":
        """One copy to the device for all of them."""
        numbers = [(each.temperature, each.top_k, each.top_p, each.min_p, each.uniform) for each in rows]
        table = torch.tensor(numbers, dtype=torch.float64, device=device)
        temperature, top_k, top_p, min_p, chance = table.unsqueeze(-1).unbind(1)
        temperature = temperature.clamp_min(_LEAST_TEMPERATURE).float()
        return cls(temperature, top_k, top_p, min_p.float(), chance, any(each.min_p > 0 for each in rows))


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that decides the token at ``position`` of a sequence: 53 bits of a hash, so no state.

    The hash is BLAKE2b (RFC 7693) of both as 64-bit numbers. A generator advanced once per token would have to be wound
    back whenever a token is computed anew.
    """
    digest = blake2b(_COUNTER.pack(seed & _MASK, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def likeliest(logits: Tensor) -> Tensor:
    """The best token of each row, the lowest of several; ``BROKEN`` where the best is no finite number.

    Args:
        logits: ``[rows, vocabulary]``, any float dtype. NaN counts as the best, so one anywhere breaks its row.

    Returns:
        int64 ``[rows]``.
    """
    best, token = logits.max(dim=-1)
    return token.where(best.isfinite(), BROKEN)


def draw_from_all(logits: Tensor, settings: Settings) -> Tensor:
    """Draw by ``temperature`` and ``min_p`` alone, which takes no order among the tokens.

    Args:
        logits: float32 ``[rows, vocabulary]``.
        settings: of each row.

    Returns:
        int64 ``[rows]``.
    """
    weights = _weights(logits, _best(logits), settings)
    if settings.some_min_p:
        weights *= weights >= settings.min_p
    return _pick(_whole(weights), settings)


def draw_from_top_k(logits: Tensor, settings: Settings) -> Tensor:
    """Draw where every row has a ``top_k``; ``SHORT`` for rows in which it goes past the candidates.

    Args:
        logits: float32 ``[rows, vocabulary]``.
        settings: of each row.

    Returns:
        int64 ``[rows]``.
    """
    values, tokens, known = candidates(logits)
    drawn = _draw_ranked(values, tokens, known, settings)
    enough = known.sum(dim=-1) >= settings.top_k.squeeze(-1)
    return drawn.where(enough | known.all(dim=-1), SHORT)


def draw_from_top_p(logits: Tensor, settings: Settings) -> Tensor:
    """Draw where no row has a ``top_k``; ``SHORT`` for rows whose candidates do not reach ``top_p``.

    Args:
        logits: float32 ``[rows, vocabulary]``.
        settings: of each row.

    Returns:
        int64 ``[rows]``.
    """
    values, tokens, known = candidates(logits)
    mass = _whole(_weights(values, values[:, :1], settings)) * known
    total = _whole(_weights(logits, values[:, :1], settings)).sum(dim=-1, keepdim=True)
    drawn = _draw_ranked(values, tokens, known, settings, total)
    enough = mass.sum(dim=-1).double() >= (settings.top_p * total.double()).squeeze(-1)
    return drawn.where(enough | known.all(dim=-1), SHORT)


def draw_from_sorted(logits: Tensor, settings: Settings) -> Tensor:
    """Draw by any settings, from whole rows sorted: 20 ms each where the vocabulary is large and the device a CPU.

    Args:
        logits: float32 ``[rows, vocabulary]``.
        settings: of each row.

    Returns:
        int64 ``[rows]``.
    """
    # stable: logits that were bf16 are full of ties, whose order would otherwise be the kernel's to choose
    values, tokens = torch.sort(logits, dim=-1, descending=True, stable=True)
    return _draw_ranked(values, tokens, torch.ones_like(tokens, dtype=torch.bool), settings)


def candidates(logits: Tensor, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    """The ``width`` highest logits of each row, highest first, of equal ones the lower id first.

    Which of the tokens that equal the last one are among them was the kernel's choice: such are not ``known``, unless
    the candidates are the whole row, or the last one is impossible anyway.

    Args:
        logits: float32 ``[rows, vocabulary]``.
        width: at most this many.

    Returns:
        Logits, token ids, and the boolean ``known``, each ``[rows, min(width, vocabulary)]``.
    """
    values, tokens = logits.topk(min(width, logits.shape[-1]), dim=-1)
    tokens, order = tokens.sort(dim=-1)
    values, order = torch.sort(values.gather(-1, order), dim=-1, descending=True, stable=True)
    last = values[:, -1:]
    known = (values > last) | last.isneginf() | (values.shape[-1] == logits.shape[-1])
    return values, tokens.gather(-1, order), known


def _draw_ranked(
    values: Tensor, tokens: Tensor, known: Tensor, settings: Settings, total: Tensor | None = None
) -> Tensor:
    """Draw from candidates, best first: ``top_k``, then ``top_p`` as a share of what that left, then ``min_p``.

    Args:
        values: their logits, float32 ``[rows, candidates]``.
        tokens: their ids.
        known: which of them count.
        settings: of each row.
        total: int64 ``[rows, 1]``, the mass that ``top_p`` is a share of, where that is more than the candidates.
    """
    weights = _weights(values, values[:, :1], settings)
    rank = torch.arange(values.shape[-1], device=values.device)
    whole = _whole(weights) * (known & ((rank < settings.top_k) | (settings.top_k == 0)))
    mass = (whole.sum(dim=-1, keepdim=True) if total is None else total).double()
    before = (whole.cumsum(dim=-1) - whole).double()
    kept = (before < settings.top_p * mass) & (weights >= settings.min_p)
    return tokens.gather(-1, _pick(whole * kept, settings).unsqueeze(-1)).squeeze(-1)


def _best(logits: Tensor) -> Tensor:
    return logits.amax(dim=-1, keepdim=True)


def _weights(logits: Tensor, best: Tensor, settings: Settings) -> Tensor:
    """Probabilities as multiples of the best token's, before anything is cut off: float32 in [0, 1]."""
    return logits.sub(best).div_(settings.temperature).exp_()


def _whole(weights: Tensor) -> Tensor:
    """As whole numbers: what is 2**40 times less likely than the best token is not drawn at all."""
    return weights.mul(_ONE).long()


def _pick(whole: Tensor, settings: Settings) -> Tensor:
    """The index in each row at which its uniform number falls when the weights are laid end to end."""
    ends = whole.cumsum(dim=-1)
    total = ends[:, -1:]
    target = torch.minimum((settings.uniform * total.double()).long(), total - 1)
    # The first end beyond the target: never a weight of 0, or the first of all if each is. A row that is no numbers may
    # land anywhere, so clamp it.
    return torch.searchsorted(ends, target, right=True).squeeze(-1).clamp(0, whole.shape[-1] - 1)
