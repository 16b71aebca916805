"""Samplers with rows to sample, and a look at which tensor operations that takes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helexa.engine.sampling.sampler import Sampled, Sampler
from helexa.wire.sampling import SamplingParams

CPU = torch.device("cpu")


class Operations(TorchDispatchMode):
    """The operations that run inside: their names, and the size of the largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.largest = 0

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.names.append(function.overloadpacket.__name__)
        parts = result if isinstance(result, tuple) else [result]
        self.largest = max([self.largest, *(each.numel() for each in parts if isinstance(each, torch.Tensor))])
        return result


def sample(
    logits: torch.Tensor | Sequence[Sequence[float]], params: Sequence[SamplingParams], prompt: Sequence[int] = (0,)
) -> list[Sampled]:
    """One step of new sequences with the same prompt, one per row."""
    logits = torch.as_tensor(logits)
    sampler = Sampler(logits.shape[1], CPU)
    for number, each in enumerate(params):
        sampler.add(number, each, prompt)
    return sampler.sample(logits, range(len(params)))


def pick(logits: torch.Tensor | Sequence[Sequence[float]], params: Sequence[SamplingParams]) -> list[int]:
    """The tokens of ``sample``."""
    return [each.token for each in sample(logits, params)]


def tied(seed: int, rows: int, vocabulary: int, spread: float = 2.0) -> torch.Tensor:
    """Logits as a bf16 model gives them, so that many are equal: ``[rows, vocabulary]``."""
    return (torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread).to(torch.bfloat16)
