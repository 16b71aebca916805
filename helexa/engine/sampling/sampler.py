"""Picking the next token for every row of a batch at once.

A row's token depends on its own logits, parameters, seed and position, and on nothing else that is in the batch. What a
row does not ask for costs it nothing: a batch of greedy rows is one reduction and one copy to the host.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from secrets import randbits

import numpy as np
import torch
from attrs import define, frozen
from llguidance import LLMatcher
from numpy.typing import NDArray
from torch import Tensor

from helexa.engine.protocol import TokenLogprob
from helexa.engine.sampling import drawing
from helexa.engine.sampling.drawing import BROKEN, SHORT, RowSettings, Settings
from helexa.engine.sampling.logprobs import logprobs
from helexa.engine.sampling.masks import Mask, MaskFiller, allows_only, forbid
from helexa.engine.sampling.penalties import Adjustments, adjust
from helexa.grammar import one_line
from helexa.wire.sampling import SamplingParams

_SLICE = 2**19
"""Logits worked on at a time on a CPU: more than that falls out of its caches, and takes several times as long."""

NO_TOKEN = "upstream_error", "The model's output is not a number, or leaves no token to pick."

Failure = tuple[str, str]
Draw = Callable[[Tensor, Settings], Tensor]
Group = tuple[Draw | None, list[int]]
"""Places in the batch, and how they are drawn; ``None`` is the likeliest token of the untouched logits."""


@frozen
class Sampled:
    """What one row got.

    Attributes:
        token: its id; meaningless if there is an error.
        logprob: if the request asked for it.
        done: its grammar can take nothing more after this token, so the sequence ends, with reason ``stop``.
        error: code of the API and a sentence: this row failed, and it alone.
    """

    token: int
    logprob: TokenLogprob | None = None
    done: bool = False
    error: Failure | None = None


@define(eq=False)
class _Row:
    """What is known of one sequence.

    Attributes:
        position: number of tokens generated so far.
        failure: why it cannot be sampled, or not any more.
        mask: what its grammar allows in this step.
    """

    params: SamplingParams
    seed: int
    adjustments: Adjustments
    matcher: LLMatcher | None
    failure: Failure | None
    position: int = 0
    mask: Mask | None = None

    @property
    def settings(self) -> RowSettings:
        params, chance = self.params, drawing.uniform(self.seed, self.position)
        return RowSettings(params.temperature, params.top_k, params.top_p, params.min_p, chance)

    @property
    def edited(self) -> bool:
        """Whether its logits are changed before the draw."""
        return self.adjustments.active or self.mask is not None

    @property
    def draw(self) -> Draw | None:
        """The cheapest way that its parameters allow."""
        if self.params.temperature <= 0:
            return _likeliest if self.edited else None
        if self.params.top_k > 0:
            return drawing.draw_from_top_k
        return drawing.draw_from_top_p if self.params.top_p < 1 else drawing.draw_from_all

    def columns(self, place: int) -> NDArray[np.float64]:
        """Its adjustments. A grammar that allows the end alone goes before ``min_tokens``."""
        ending = self.mask is not None and allows_only(self.mask, self.adjustments.held)
        return self.adjustments.columns(place, hold=not ending)

    def check_matcher(self) -> None:
        """Find out whether the grammar has failed, which it does when following it costs too much."""
        if self.failure is None and self.matcher is not None and self.matcher.is_error():
            reason = one_line(self.matcher.get_error())
            self.failure = "upstream_error", f"The grammar cannot be followed any further: {reason}."

    def advance(self, token: int) -> None:
        """Take note of a token, which the matcher has been told."""
        self.position += 1
        self.adjustments.add(token)
        self.check_matcher()

    def outcome(self, token: int, logprob: TokenLogprob | None) -> Sampled:
        done = self.matcher is not None and self.matcher.is_stopped()
        return Sampled(token, logprob, done and self.failure is None, self.failure)


class Sampler:
    """Owns what sampling has to remember of each sequence, by the sequence's number. For one thread.

    Args:
        vocabulary: width of the logits.
        device: where they are.
    """

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._rows: dict[int, _Row] = {}
        self._masks = MaskFiller(vocabulary)
        self._slice = max(1, _SLICE // vocabulary) if device.type == "cpu" else sys.maxsize

    def add(
        self,
        number: int,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        matcher: LLMatcher | None = None,
        generated: Sequence[int] = (),
    ) -> None:
        """Begin a sequence.

        Args:
            number: the scheduler's; of no other live sequence.
            params: of this one choice: with its own seed, or none to draw a fresh one.
            prompt_ids: all below the vocabulary.
            matcher: at the start of the output, this sequence's own, for a vocabulary as wide as the logits.
            generated: what has been generated already, which is taken note of as if it had been picked here.
        """
        seed = randbits(63) if params.seed is None else params.seed
        adjustments = Adjustments(params, prompt_ids, self._vocabulary)
        row = self._rows[number] = _Row(params, seed, adjustments, matcher, self._refusal(params))
        if matcher is not None:  # one after the other: what tells several matchers at once keeps no order
            matcher.consume_tokens([token for token in generated if token not in params.stop_token_ids])
        for token in generated:
            row.advance(token)

    def remove(self, number: int) -> None:
        """Forget a sequence, known or not."""
        self._rows.pop(number, None)

    def sample(self, logits: Tensor, numbers: Sequence[int]) -> list[Sampled]:
        """Pick one token per row, and remember it.

        Args:
            logits: ``[rows, vocabulary]``, any float dtype; left as they are.
            numbers: the sequence of each row, each at most once.

        Raises:
            KeyError: a sequence was not added.
        """
        rows = [self._rows[number] for number in numbers]
        self._mask(rows)
        tokens = self._pick(logits, rows)
        self._commit(rows, tokens)
        reported = self._logprobs(logits, rows, tokens)
        return [row.outcome(tokens[place], reported.get(place)) for place, row in enumerate(rows)]

    def _refusal(self, params: SamplingParams) -> Failure | None:
        outside = [token for token, _ in params.logit_bias if not 0 <= token < self._vocabulary]
        if not outside:
            return None
        return "invalid_value", f"'logit_bias' names token {outside[0]}; the model has {self._vocabulary} tokens."

    def _mask(self, rows: Sequence[_Row]) -> None:
        constrained = [(row, row.matcher) for row in rows if row.matcher is not None and row.failure is None]
        masks = self._masks.fill([matcher for _, matcher in constrained])
        for (row, _), mask in zip(constrained, masks, strict=True):
            row.mask = mask
            row.check_matcher()

    def _pick(self, logits: Tensor, rows: Sequence[_Row]) -> list[int]:
        """The tokens, or ``BROKEN``. Two copies to the host at most, the second for rows that have to be sorted."""
        found = self._draw(logits, rows, _groups(rows))
        short = [place for place, token in found.items() if token == SHORT]
        found |= self._draw(logits, rows, [(drawing.draw_from_sorted, short)])
        return [found.get(place, BROKEN) for place in range(len(rows))]

    def _draw(self, logits: Tensor, rows: Sequence[_Row], groups: Sequence[Group]) -> dict[int, int]:
        # What only reads the logits is not helped by small bites.
        parts = [(draw, part) for draw, places in groups for part in (self._slices(places) if draw else [places])]
        if not parts:
            return {}
        drawn = [_draw_part(logits, rows, draw, places) for draw, places in parts]
        places = [place for _, part in parts for place in part]
        return dict(zip(places, torch.cat(drawn).tolist(), strict=True))

    def _slices(self, places: list[int]) -> Iterator[list[int]]:
        remaining = iter(places)
        while part := list(islice(remaining, self._slice)):
            yield part

    def _commit(self, rows: Sequence[_Row], tokens: Sequence[int]) -> None:
        sound = []
        for row, token in zip(rows, tokens, strict=True):
            if row.failure is None and token == BROKEN:
                row.failure = NO_TOKEN
            if row.failure is None:
                sound.append((row, token))
        # A stop id ends the sequence as it is. It may be none of the grammar's, which would be an error to it.
        self._masks.consume(
            [(row.matcher, token) for row, token in sound if row.matcher and token not in row.params.stop_token_ids]
        )
        for row, token in sound:
            row.advance(token)

    def _logprobs(self, logits: Tensor, rows: Sequence[_Row], tokens: Sequence[int]) -> dict[int, TokenLogprob]:
        wanted = [place for place, row in enumerate(rows) if row.params.logprobs is not None and row.failure is None]
        found: dict[int, TokenLogprob] = {}
        for part in self._slices(wanted):
            tops = [rows[place].params.logprobs or 0 for place in part]
            found |= zip(part, logprobs(logits[part], [tokens[place] for place in part], tops), strict=True)
        return found


def _groups(rows: Sequence[_Row]) -> list[Group]:
    """Rows that are drawn in the same way, without those that have failed."""
    groups: dict[Draw | None, list[int]] = {}
    for place, row in enumerate(rows):
        if row.failure is None:
            groups.setdefault(row.draw, []).append(place)
    return list(groups.items())


def _draw_part(logits: Tensor, rows: Sequence[_Row], draw: Draw | None, places: list[int]) -> Tensor:
    if draw is None:
        return drawing.likeliest(logits if len(places) == len(rows) else logits[places])
    part = [rows[place] for place in places]
    own = logits[places].float()  # a copy: indexing with a list makes one
    sound = own.amax(dim=-1).isfinite()
    if any(row.edited for row in part):
        _edit(own, part)
        sound &= own.amax(dim=-1).isfinite()
    return draw(own, Settings.of([row.settings for row in part], own.device)).where(sound, BROKEN)


def _edit(logits: Tensor, rows: Sequence[_Row]) -> None:
    """Penalties, biases, ``min_tokens``, then the grammars, in place."""
    columns = [row.columns(place) for place, row in enumerate(rows) if row.adjustments.active]
    if columns:
        adjust(logits, columns)
    if any(row.mask is not None for row in rows):
        forbid(logits, [row.mask for row in rows])


def _likeliest(logits: Tensor, _: Settings) -> Tensor:
    return drawing.likeliest(logits)
