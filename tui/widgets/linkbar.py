"""The first lines of every screen: which screens there are, where the console looks, whether the fleet is there."""

from rich.text import Text
from textual.reactive import reactive
from textual.widgets import Static

from tui.messages import LinkState

_SAID: dict[LinkState, tuple[str, str]] = {
    "connecting": ("connecting", "yellow"),
    "connected": ("connected", "green"),
    "lost": ("NO CONNECTION, trying again", "bold red"),
    "refused": ("THE KEY IS REFUSED", "bold red"),
    "strange": ("NOT A FLEET", "bold red"),
    "replay": ("replay", "cyan"),
    "paused": ("replay, paused", "yellow"),
    "ended": ("end of the recording", "yellow"),
}


class LinkBar(Static):
    """The screens, and under them the fleet; a third line with the reason where there is something wrong.

    Attributes:
        tabs: key and title of each screen.
        title: of the one in front.
    """

    state: reactive[LinkState] = reactive("connecting", layout=True)
    reason: reactive[str] = reactive("", layout=True)
    title: reactive[str] = reactive("")
    tabs: reactive[tuple[tuple[str, str], ...]] = reactive(())
    where: reactive[str] = reactive("")
    note: reactive[str] = reactive("")

    def render(self) -> Text:
        """The lines."""
        lines = [self._tabs(), self._link()]
        for line in lines:
            line.truncate(max(1, self.size.width), overflow="ellipsis")
        if self.state in ("lost", "refused", "strange") and self.reason:
            lines.append(Text(f" {' '.join(self.reason.split())}", "red"))  # whole: it says what to do
        return Text("\n").join(lines)

    def _tabs(self) -> Text:
        found = Text(" ")
        for key, title in self.tabs:
            style = "reverse bold" if title == self.title else ""
            found.append_text(Text.assemble((key, "dim"), (f" {title} ", style), " "))
        return found

    def _link(self) -> Text:
        said, style = _SAID[self.state]
        note = f"  {self.note}" if self.note else ""  # before the place: where there is no room for both, it counts
        return Text.assemble(" ", (said, style), f"{note}  {self.where}")
