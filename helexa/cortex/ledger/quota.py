"""What a request may use of what is left: all that it asks for, less, or nothing. Pure arithmetic."""

import math
from collections.abc import Iterable
from typing import Final

from attrs import frozen

from config import BudgetUnit
from helexa.cortex.ledger.ports import Ask

_PROMPT_PART: Final = 8
"""A prompt's bound is its bytes. A tokenizer makes a token of four or five, and seldom of more than eight."""


@frozen
class Left:
    """What limits leave at least; infinite where none is about it.

    Attributes:
        tokens: prompt and completion.
        requests: how many.
        cost: in picodollars.
    """

    tokens: float = math.inf
    requests: float = math.inf
    cost: float = math.inf


@frozen
class Share:
    """What a request may use.

    Attributes:
        total: tokens, prompt and completion.
        output: completion tokens.
        cost: picodollars; no split of ``total`` that keeps to ``output`` costs more.
        full: whether it is all that was asked for.
    """

    total: int
    output: int
    cost: int
    full: bool

    @property
    def amounts(self) -> tuple[int, int, int]:
        """What has to be set aside of limits of tokens, of requests, and of picodollars."""
        return self.total, 1, self.cost


def whole(ask: Ask) -> Share:
    """All that is asked for."""
    return Share(ask.prompt + ask.output, ask.output, ask.prices.cost(ask.prompt, ask.output), full=True)


def least(ask: Ask) -> int:
    """Tokens that less than is of no use: a prompt may be shorter than its bound, but hardly by more than this."""
    return max(1, ask.prompt // _PROMPT_PART) + (ask.output if ask.limited else min(1, ask.output))


def least_cost(ask: Ask) -> int:
    """Picodollars that ``least`` of them costs."""
    return _worst(ask, least(ask), ask.output if ask.limited else 1)


def fitting(ask: Ask, left: Left) -> Share | None:
    """As much of what is asked for as there is; ``None``: too little to be of use.

    What is cut down is the answer, if the client did not say how long it is to be; and then the room for the prompt,
    whose true length only its tokenizer tells.
    """
    if left.requests < 1:
        return None
    everything = whole(ask)
    if everything.total <= left.tokens and everything.cost <= left.cost:
        return everything
    found = None if ask.limited else _shorter_answer(ask, left)
    if found is None:
        found = _shorter_prompt(ask, left)
    return found if found.total >= least(ask) else None


def _shorter_answer(ask: Ask, left: Left) -> Share | None:
    """With money for the prompt's bound as it is; ``None``: then there is none for even one token of an answer.

    Tokens are not divided up between the prompt and the answer: whoever counts the prompt knows what it leaves.
    """
    by_cost = _whole_parts(left.cost - ask.prices.cost(ask.prompt, 0), ask.prices.output)
    most = int(min(ask.output, by_cost))
    if most < 1:
        return None
    total = int(max(0, min(ask.prompt + most, left.tokens)))
    output = max(0, min(most, total - 1))
    return Share(total, output, ask.prices.cost(min(ask.prompt, total), output), full=False)


def _shorter_prompt(ask: Ask, left: Left) -> Share:
    """As many tokens as there are, however a tokenizer divides them up; as good as none if that is none."""
    if ask.limited:
        by_cost = ask.output + _whole_parts(left.cost - ask.output * ask.prices.output, ask.prices.input)
    else:
        by_cost = _whole_parts(left.cost, max(ask.prices.input, ask.prices.output))
    total = int(max(0, min(ask.prompt + ask.output, left.tokens, by_cost)))
    output = ask.output if ask.limited else max(0, min(ask.output, total - 1))
    return Share(total, output, _worst(ask, total, output), full=False)


def _worst(ask: Ask, total: int, output: int) -> int:
    """The most that so many tokens cost: where the output is the client's to say, that much is set aside for it."""
    if ask.limited:
        return ask.prices.cost(max(0, total - output), output)
    return total * max(ask.prices.input, ask.prices.output)


def _whole_parts(amount: float, price: int) -> float:
    """Tokens at a price that an amount suffices for; below 0 if it does not even suffice for none."""
    if amount < 0:
        return -1
    return amount // price if price and amount != math.inf else math.inf


def least_of(found: Iterable[tuple[BudgetUnit, int]]) -> Left:
    """What is left where each of these is left of a limit."""
    tokens = requests = cost = math.inf
    for unit, amount in found:
        if unit == "tokens":
            tokens = min(tokens, amount)
        elif unit == "usd":
            cost = min(cost, amount)
        else:
            requests = min(requests, amount)
    return Left(tokens, requests, cost)
