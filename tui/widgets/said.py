"""Texts that stand at a place and are said anew now and then."""

from rich.cells import cell_len
from rich.text import Text
from textual.widgets import Static


def say(place: Static, text: Text | None) -> None:
    """Show a text at a place, if it is another one than before; ``None``: there is nothing to say there.

    The screen is laid out anew only where the text takes another number of lines: that takes longer than all the rest.
    """
    place.display = text is not None
    if text is None:
        return
    shown = place.content
    if not isinstance(shown, Text):
        place.update(text)
    elif (shown.plain, shown.style, shown.spans) != (text.plain, text.style, text.spans):
        place.update(text, layout=not _alike(shown, text, place.content_size.width))


def _alike(these: Text, those: Text, width: int) -> bool:
    """Whether two texts take the same lines of so many characters: as many of them, and none that is folded."""
    one, other = these.plain.split("\n"), those.plain.split("\n")
    return len(one) == len(other) and all(cell_len(line) <= width for line in (*one, *other))
