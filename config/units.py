"""Sizes and durations as people write them, and exactly back."""

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Final, NewType

from config.problems import InvalidValueError, show

Size = NewType("Size", int)
"""A number of bytes."""

Duration = NewType("Duration", float)
"""A length of time in seconds; infinity stands for "never"."""

NEVER: Final = Duration(math.inf)

_SIZE_HINT: Final = 'a number and a unit, in quotes, such as "24GiB" or "1.5GB"'
_DURATION_HINT: Final = 'a length of time, in quotes, such as "500ms", "15m" or "1h30m"'

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_BYTES: Final = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
    "B": 1,
}
_MILLISECONDS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

_SIZE_PATTERN: Final = re.compile(rf"({_NUMBER}) ?({'|'.join(_BYTES)})")
# One optional group per unit, largest first: "1h30m" fits and "30m1h" does not.
_DURATION_PATTERN: Final = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in _MILLISECONDS))


def parse_size(text: object) -> Size:
    """Read a size such as "24GiB" (powers of 1024) or "1.5GB" (powers of 1000).

    A fraction of a byte is dropped.

    Raises:
        InvalidValueError: The text is not a size.
    """
    match = _SIZE_PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidValueError(f"{show(text)} is not a size", _SIZE_HINT)
    try:
        return Size(int(Fraction(match[1]) * _BYTES[match[2]]))
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise InvalidValueError("has too many digits for a size", _SIZE_HINT) from None


def format_size(size: Size) -> str:
    """Write a size so that `parse_size` returns exactly the same number of bytes.

    Raises:
        ValueError: The size is negative.
    """
    if size < 0:
        raise ValueError(f"a size cannot be negative: {size}")
    whole = (f"{size // scale}{unit}" for unit, scale in _BYTES.items() if size % scale == 0 and size >= scale)
    return min(whole, key=len, default="0B")


def parse_duration(text: object) -> Duration:
    """Read a duration such as "500ms", "1h30m" or "never", the last as infinity.

    The sum is made of exact fractions and rounded once: adding floats would turn "1s100ms" into a number that no
    decimal text stands for.

    Raises:
        InvalidValueError: The text is not a duration.
    """
    if text == "never":
        return NEVER
    match = _DURATION_PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None or not match[0]:
        raise InvalidValueError(f"{show(text)} is not a duration", _DURATION_HINT)
    try:
        parts = [Fraction(number) * _MILLISECONDS[unit] for unit, number in match.groupdict().items() if number]
        return Duration(float(sum(parts) / 1000))
    except (ValueError, OverflowError):
        raise InvalidValueError("has too many digits for a duration", _DURATION_HINT) from None


def format_duration(seconds: Duration) -> str:
    """Write a duration so that `parse_duration` returns exactly the same float.

    Raises:
        ValueError: The duration is negative or not a number.
    """
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"a duration cannot be {seconds}")
    if math.isinf(seconds):
        return "never"
    milliseconds = Fraction(repr(seconds)) * 1000
    if milliseconds.denominator != 1:  # finer than any unit: the shortest decimal that reads back the same
        return f"{Decimal(repr(seconds)):f}s"
    return _units(int(milliseconds)) or "0s"


def _units(milliseconds: int) -> str:
    text = ""
    for unit, scale in _MILLISECONDS.items():
        count, milliseconds = divmod(milliseconds, scale)
        text += f"{count}{unit}" if count else ""
    return text
