"""Text of strangers, made fit for a terminal. Pure."""

from typing import Final

_LINES: Final = str.maketrans({"\n": "⏎", "\t": " ", "\r": ""})


def line(text: str) -> str:
    """In one line, without what a terminal would obey: names in requests are their clients' to choose."""
    return lines(text.translate(_LINES))


def lines(text: str) -> str:
    """The same, where lines may end."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text)
