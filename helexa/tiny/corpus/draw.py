"""Seeded choices that keep evaluation apart from training."""

import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from attrs import frozen

T = TypeVar("T")

_RESERVED_IN = 10  # one value in ten is never trained on, where a task holds values out


@frozen
class Phrases:
    """Ways to say one thing: those trained on, and those kept for evaluation."""

    trained: tuple[str, ...]
    held: tuple[str, ...]

    @classmethod
    def of(cls, trained: str, held: str) -> "Phrases":
        """Read two blocks of text with one phrase a line."""
        return cls(lines(trained), lines(held))


def lines(block: str) -> tuple[str, ...]:
    """Return the non-empty lines of a block of text, stripped."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())


def words(block: str) -> tuple[str, ...]:
    """Return the words of a block of text."""
    return tuple(block.split())


def reserved(value: object) -> bool:
    """Say whether a value is kept for evaluation; the same in every process."""
    return zlib.crc32(repr(value).encode()) % _RESERVED_IN == 0


@frozen
class Draw:
    """A source of choices; ``held`` draws from the evaluation side of every split."""

    rng: Random
    held: bool = False

    @classmethod
    def seeded(cls, seed: int, *, held: bool = False) -> "Draw":
        """Return a draw whose choices depend on the seed alone."""
        return cls(Random(seed), held)

    def pick(self, pool: Sequence[T]) -> T:
        """Choose one of a sequence."""
        return pool[self.rng.randrange(len(pool))]

    def chance(self, probability: float) -> bool:
        """Return true that often."""
        return self.rng.random() < probability

    def number(self, low: int, high: int) -> int:
        """Choose a whole number from low to high, both included."""
        return self.rng.randint(low, high)

    def odds(self, *choices: tuple[float, T]) -> T:
        """Choose one of several by weight."""
        weights = [weight for weight, _ in choices]
        return self.rng.choices([choice for _, choice in choices], weights=weights)[0]

    def phrase(self, phrases: Phrases) -> str:
        """Choose a phrase from this draw's side of the split."""
        return self.pick(phrases.held if self.held else phrases.trained)

    def fresh(self, make: Callable[[], T]) -> T:
        """Make values until one falls on this draw's side of the split."""
        while reserved(value := make()) != self.held:
            pass
        return value
