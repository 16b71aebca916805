"""Models that keep more than keys and values per sequence: recurrent and hybrid layers (Qwen3-Next, Mamba, …).

Each sequence has a cache of its own, made by the model itself, and each chunk is a forward pass of its own. Slower
under load than the paged way, and nothing is shared between sequences. What such models do with their caches differs,
and some of it is wrong, so it is tried out when one is loaded.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from attrs import define, field
from torch import Tensor

from helexa.engine.networks.generic import turns_by_length
from helexa.engine.scheduling.plan import Chunk, StepPlan

_CACHES = "past_key_values", "cache_params", "state"
"""What models of transformers call what they keep, in their arguments and in their output."""
_PROBE_TOKENS = 16
_TOLERANCE = 3.0
"""How much further off than by rounding, which token by token shows, the same logits may be: this many times, …"""
_FLOOR = 1e-3
"""… and this much, in parts of their length."""
_USELESS = 0.5
"""Distance at which logits say something else, in parts of their length."""


class NotContinuedError(Exception):
    """This model's sequences cannot be continued, or not beside one another."""


@define(eq=False)
class _State:
    """What is known of one sequence.

    Attributes:
        computed: tokens that the cache has seen.
        held: ids of tokens that it has not.
        cache: by the name that the model has for it; empty before the first token.
    """

    computed: int = 0
    held: list[int] = field(factory=list)
    cache: dict[str, Any] = field(factory=dict)


class StatefulRunner:
    """One cache per sequence; implements ``runner.Runner``.

    A prompt is computed in the scheduler's chunks if the model can take up its state again with several tokens at once,
    as a whole with the last chunk if not.

    Args:
        module: the model, in evaluation mode.

    Raises:
        NotContinuedError: its cache does not do what a cache is for.
    """

    reuses_prefixes = False

    def __init__(self, module: Any) -> None:
        self._module = module
        self._takes = inspect.signature(module.forward).parameters
        self._states: dict[int, _State] = {}
        self.vocabulary = int(module.get_output_embeddings().weight.shape[0])
        self._in_chunks = self._probe() and not turns_by_length(module.config.get_text_config())

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> Tensor:
        """``[rows, vocabulary]``: the logits that are wanted, as ``runner.Runner`` has them."""
        found = [self._take(chunk) for chunk in plan.chunks]
        wanted = [rows for rows in found if rows is not None]
        return torch.cat(wanted) if wanted else torch.empty(0, self.vocabulary)

    def forget(self, number: int) -> None:
        """Drop a sequence's state."""
        self._states.pop(number, None)

    def _take(self, chunk: Chunk) -> Tensor | None:
        if chunk.start == 0:  # a new sequence, or one that starts over
            self._states[chunk.number] = _State()
        state = self._states[chunk.number]
        state.held += chunk.ids
        wanted = chunk.scored + chunk.due
        if chunk.due or self._in_chunks:
            rows = self._advance(state, max(1, wanted))
            return rows if wanted else None
        return self._look(state, wanted) if wanted else None

    def _look(self, state: _State, rows: int) -> Tensor:
        """The logits after the last of what is held, ``[rows, vocabulary]``, which is held on to.

        From the beginning each time: such a model cannot go on from there with several tokens.
        """
        ids = torch.tensor([state.held], device=self._module.device)
        kept = {"logits_to_keep": rows} if "logits_to_keep" in self._takes else {}
        logits: Tensor = self._module(ids, use_cache=False, **kept).logits[0, -rows:]
        return logits

    def _advance(self, state: _State, rows: int = 1) -> Tensor:
        """Compute what is held; the logits after its last tokens, ``[rows, vocabulary]``."""
        ids = torch.tensor([state.held], device=self._module.device)
        positions = torch.arange(state.computed, state.computed + ids.shape[1], device=ids.device)[None]
        known = {"position_ids": positions, "logits_to_keep": rows}  # some models forget how far they have come
        wanted = {name: value for name, value in known.items() if name in self._takes}
        output = self._module(ids, use_cache=True, **state.cache, **wanted)
        state.cache = {name: output[name] for name in _CACHES if output.get(name) is not None}
        if not state.cache:
            raise NotContinuedError("it does not hand out what it keeps of a sequence")
        state.computed, state.held = state.computed + ids.shape[1], []
        logits: Tensor = output.logits[0, -rows:]
        return logits

    @torch.inference_mode()
    def _probe(self) -> bool:
        """Whether several tokens may follow on earlier ones; that one token may, beside other sequences, has to be."""
        ids = list(range(_PROBE_TOKENS))
        half = _PROBE_TOKENS // 2
        by_one = [ids[:half], *([each] for each in ids[half:])]
        whole = self._walk([ids])
        rounding = _distance(self._walk(by_one), whole)
        if not rounding < _USELESS:
            raise NotContinuedError(f"its cached logits are unlike its own (off by {rounding:.0%})")
        bound = _TOLERANCE * rounding + _FLOOR
        if not (beside := _distance(self._walk(by_one, beside=True), whole)) <= bound:
            raise NotContinuedError(f"its sequences disturb one another (logits off by {beside:.0%})")
        return _distance(self._walk([ids[:half], ids[half:]]), whole) <= bound

    def _walk(self, parts: Sequence[Sequence[int]], *, beside: bool = False) -> Tensor:
        """The logits after all parts, one pass each; with ``beside``, another sequence advances in between."""
        state, other = _State(), _State()
        for part in parts:
            state.held += part
            logits = self._advance(state)
            if beside:
                other.held += reversed(part)
                self._advance(other)
        return logits


def _distance(found: Tensor, expected: Tensor) -> float:
    """Euclidean, in parts of what is expected; ``nan`` is far from anything."""
    length = expected.float().norm()
    return float((found.float() - expected.float()).norm() / length)
