"""One request inside the engine: its tokens, its cache, its random numbers."""

from typing import Any

import torch
from attrs import define, field

from helexa.engine.protocol import Submit
from helexa.wire.sampling import SamplingParams


def _generator(params: SamplingParams) -> torch.Generator:
    generator = torch.Generator()
    if params.seed is None:
        generator.seed()
    else:
        generator.manual_seed(params.seed)
    return generator


@define(eq=False)
class Sequence:
    """A request from admission to its end.

    Attributes:
        request: the id the neuron knows it by.
        ids: prompt and generated token ids.
        prompt_length: how many of ``ids`` are the prompt.
        computed: how many of ``ids`` are in the KV cache.
        limit: ``len(ids)`` at which it ends with reason ``length``.
        cache: the KV cache, owned by the runner; ``None`` before the first step.
    """

    request: str
    ids: list[int]
    prompt_length: int
    limit: int
    params: SamplingParams
    generator: torch.Generator
    computed: int = 0
    cache: Any = None
    stop_ids: frozenset[int] = field(factory=frozenset)

    @classmethod
    def admit(cls, submit: Submit, context_length: int) -> "Sequence":
        """A fresh sequence. The caller has checked that the prompt is shorter than the context."""
        wanted = submit.sampling.max_tokens
        prompt = len(submit.prompt_ids)
        return cls(
            request=submit.request,
            ids=list(submit.prompt_ids),
            prompt_length=prompt,
            limit=context_length if wanted is None else min(context_length, prompt + wanted),
            params=submit.sampling,
            generator=_generator(submit.sampling),
            stop_ids=frozenset(submit.sampling.stop_token_ids),
        )

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self.ids) - self.prompt_length

    def append(self, token: int) -> str | None:
        """Take a sampled token; the finish reason if it was the last."""
        self.ids.append(token)
        if token in self.stop_ids:
            return "stop"
        return "length" if len(self.ids) >= self.limit else None
