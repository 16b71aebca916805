"""What a model thought of the tokens of a prompt: the rows of a step's logits that are for them, and what they say.

A step's logits are rows that foretell a prompt's own tokens, for requests that want to know how likely those were, and
rows that the next tokens are picked from. The former are read a few at a time: their softmax takes several times as
much memory as they do. How many there are in a step, the scheduler bounds.
"""

import math
from collections.abc import Mapping
from collections.abc import Sequence as Rows

from attrs import frozen
from torch import Tensor

from helexa.engine.protocol import TokenDelta, TokenLogprob
from helexa.engine.sampling.logprobs import logprobs
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.sequence import Sequence

_AT_ONCE = {"cpu": 2**19, "cuda": 2**22}
"""Logits read at a time, or one row where a vocabulary is larger. On a CPU as in ``sampling``: what fits its caches."""

_FIRST = TokenLogprob(None, prompt=True)


@frozen(eq=False)
class Scores:
    """What a step has brought for prompts, and what is left of it.

    Attributes:
        due: the sequences whose next token is wanted.
        logits: ``[due, vocabulary]``, for these.
        deltas: tokens of prompts.
        broken: requests whose logits are no numbers.
    """

    due: Rows[int]
    logits: Tensor
    deltas: Rows[TokenDelta] = ()
    broken: Rows[str] = ()


def score(plan: StepPlan, logits: Tensor, live: Mapping[int, Sequence], tops: Mapping[int, int]) -> Scores:
    """Take what is for prompts from a step's logits, and take note of it in the sequences.

    Args:
        plan: the step.
        logits: ``[rows, vocabulary]``, as the runner gives them.
        live: all sequences of the step by number.
        tops: of those that want to know, how many of the likeliest tokens to report; by number.
    """
    scored, due = _rows(plan)
    deltas, first = [], 0
    for chunk in [each for each in plan.chunks if each.number in tops]:
        rows = logits, scored[first : first + chunk.scored]
        first += chunk.scored
        if (delta := _delta(live[chunk.number], chunk, rows, tops[chunk.number])) is not None:
            deltas.append(delta)
    broken = {delta.request for delta in deltas if _is_broken(delta)}
    sound = [delta for delta in deltas if delta.request not in broken]
    return Scores(plan.due, logits[due] if scored else logits, sound, sorted(broken))


def _rows(plan: StepPlan) -> tuple[list[int], list[int]]:
    """Which rows are for prompts, and which are due."""
    scored: list[int] = []
    due: list[int] = []
    for chunk in plan.chunks:
        row = len(scored) + len(due)
        scored += range(row, row + chunk.scored)
        if chunk.due:
            due.append(row + chunk.scored)
    return scored, due


def _delta(sequence: Sequence, chunk: Chunk, rows: tuple[Tensor, list[int]], top: int) -> TokenDelta | None:
    """The tokens of its prompt that a chunk tells of; ``None`` if it tells nothing new."""
    told = sequence.reported or 0
    known = min(chunk.end + 1, sequence.prompt_length)
    if known <= told:
        return None
    ids = sequence.ids[told:known]
    found = [] if told else [_FIRST]
    found += _read(rows, ids[len(found) :], top)
    sequence.reported = known
    return TokenDelta(sequence.request, ids, sequence.index, found)


def _read(rows: tuple[Tensor, list[int]], ids: list[int], top: int) -> list[TokenLogprob]:
    logits, places = rows
    size = max(1, _AT_ONCE.get(logits.device.type, 2**19) // logits.shape[-1])
    found: list[TokenLogprob] = []
    for first in range(0, len(places), size):
        part = places[first : first + size]
        found += logprobs(logits[part], ids[first : first + size], [top] * len(part))
    return [TokenLogprob(each.logprob, each.top, prompt=True) for each in found]


def _is_broken(delta: TokenDelta) -> bool:
    return any(each.logprob is not None and math.isnan(each.logprob) for each in delta.logprobs)
