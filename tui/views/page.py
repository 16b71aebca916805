"""How details of something are laid out. Pure."""

from collections.abc import Sequence
from typing import Final

from attrs import frozen
from rich.text import Text

from tui.widgets.bars import bar
from tui.widgets.sparkline import chart, latest

_LABEL: Final = 13


@frozen
class Page:
    """Room for details.

    Attributes:
        width: characters.
        tall: whether there is room for charts of several lines.
        unicode: whether there is more than ASCII.
    """

    width: int
    tall: bool
    unicode: bool

    def fact(self, label: str, said: str | Text) -> Text:
        """A line with a label; longer ones go on under themselves."""
        text = Text(said) if isinstance(said, str) else said
        return Text.assemble((f"{label:<{_LABEL}}", "dim"), _indented(text, self.width - _LABEL))

    def course(
        self, label: str, values: Sequence[float | None] | None, said: str, style: str, top: float | None
    ) -> list[Text]:
        """A heading with the latest figure, and under it the course."""
        readings = latest(values, self.width)
        if not any(each is not None for each in readings):
            return []
        lines = chart(readings, (self.width, 5 if self.tall else 2), style, unicode=self.unicode, top=top)
        return [Text(), Text.assemble((label, "dim"), "  ", (said, "bold")), *lines]

    def share(self, part: float | None, style: str, said: str) -> Text:
        """A bar, and what it says."""
        return Text.assemble(bar(part, 20, style, unicode=self.unicode), f"  {said}")


def _indented(text: Text, width: int) -> Text:
    """Text broken into lines as wide as that, all but the first indented as far as a label is long."""
    words, lines = text.plain.split(), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return Text(f"\n{' ' * _LABEL}".join(lines), text.style) if len(lines) > 1 else text
