"""Plain texts of many short examples: the densest practice for what needs the most of it."""

from collections.abc import Callable

from helexa.tiny.corpus.draw import Draw
from helexa.tiny.corpus.sums import operands, result
from helexa.tiny.corpus.words import spelled

_LONGEST = 30  # examples per text

Example = tuple[str, str]
"""A question that is given and an answer that is learned."""


def drill(draw: Draw) -> list[Example]:
    """Return the examples of one text, all of one kind."""
    example = draw.odds((0.7, _sum), (0.2, _spelling), (0.1, _letters))
    return _repeated(draw, example)


def _repeated(draw: Draw, example: Callable[[Draw], Example]) -> list[Example]:
    return [example(draw) for _ in range(draw.number(_LONGEST // 2, _LONGEST))]


def _sum(draw: Draw) -> Example:
    sign, a, b = operands(draw)
    return f"{a} {sign} {b} = ", f"{result(sign, a, b)}."


def _spelling(draw: Draw) -> Example:
    word = spelled(draw)
    return f"{word} ", f"{'-'.join(word)}."


def _letters(draw: Draw) -> Example:
    word = spelled(draw)
    return f"{word} ", f"{'-'.join(word)}: {len(word)} letters."
