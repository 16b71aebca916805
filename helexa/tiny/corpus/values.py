"""Values that people give to tools."""

from collections.abc import Callable

from helexa.tiny.corpus.draw import Draw
from helexa.tiny.corpus.lexicon import CITIES, NAMES, any_word, fresh_word, proper, several
from helexa.tiny.corpus.sums import expression
from helexa.tiny.corpus.toolspec import Value

MONEY = ("USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "SEK", "NOK", "INR", "CNY", "BRL", "MXN", "PLN", "DKK")
DAYS = ("today", "tomorrow", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "next week")
TONGUES = ("French", "German", "Spanish", "Italian", "Dutch", "Polish", "Japanese", "Swedish", "Greek", "Danish")
UNITS = ("celsius", "fahrenheit")


def whole(low: int, high: int) -> Callable[[Draw], Value]:
    """Return a source of whole numbers from low to high."""
    return lambda draw: draw.number(low, high)


def decimal(draw: Draw) -> Value:
    """Return a number, often with decimals."""
    return draw.number(1, 999) if draw.chance(0.6) else draw.number(1, 99) + draw.pick((0.5, 0.25, 0.1, 0.75, 0.99))


def one_of(options: tuple[str, ...]) -> Callable[[Draw], Value]:
    """Return a source that chooses an option."""
    return lambda draw: draw.pick(options)


def city(draw: Draw) -> Value:
    """Return a city."""
    return proper(draw, CITIES)


def person(draw: Draw) -> Value:
    """Return a person's name."""
    return proper(draw, NAMES)


def time(draw: Draw) -> Value:
    """Return a time of day."""
    return f"{draw.number(0, 23):02}:{draw.pick('012345')}{draw.pick('05')}"


def text(draw: Draw) -> Value:
    """Return a few words."""
    return several(draw, 1, 4)


def word(draw: Draw) -> Value:
    """Return a word."""
    return any_word(draw)


def mail(draw: Draw) -> Value:
    """Return an e-mail address."""
    return f"{proper(draw, NAMES).lower()}@{fresh_word(draw)}.{draw.pick(('com', 'org', 'net'))}"


def file(draw: Draw) -> Value:
    """Return a path."""
    folder = f"{draw.pick(('src', 'docs', 'data', 'tests'))}/" if draw.chance(0.4) else ""
    return f"{folder}{any_word(draw)}.{draw.pick(('txt', 'py', 'md', 'json', 'toml', 'csv'))}"


def symbol(draw: Draw) -> Value:
    """Return a stock symbol."""
    return "".join(draw.pick("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(draw.number(3, 4)))


def calculation(draw: Draw) -> Value:
    """Return an expression, written out in words or signs."""
    return (
        expression(draw, draw.pick("+-*"), draw.number(0, 999), draw.number(0, 999))
        .replace("\u00d7", "*")
        .replace("x", "*")
    )
