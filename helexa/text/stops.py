"""Stop strings in streamed text: what may be shown already, and where to stop. Pure."""

from collections.abc import Sequence

from attrs import frozen


@frozen
class _Match:
    start: int
    stop: str


class _Progress:
    """How much of one stop string the text ends with (Knuth-Morris-Pratt), so that no character is looked at twice."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0  # characters of `stop` that the text ends with; always fewer than all
        self._borders = _borders(stop)

    def feed(self, char: str) -> bool:
        """Take one more character; True if it completes the stop string."""
        while self.length and self.stop[self.length] != char:
            self.length = self._borders[self.length - 1]
        self.length += self.stop[self.length] == char
        if self.length < len(self.stop):
            return False
        self.length = self._borders[-1]
        return True


def _borders(stop: str) -> list[int]:
    """For each prefix of `stop`, the length of the longest shorter prefix that it also ends with."""
    borders = [0]
    for char in stop[1:]:
        length = borders[-1]
        while length and stop[length] != char:
            length = borders[length - 1]
        borders.append(length + (stop[length] == char))
    return borders


class StopStrings:
    """Cuts one text stream at the first stop string.

    The match that starts earliest wins; of two that start together, the longer. Text that could still turn out to
    belong to a match is held back, never more than the longest stop string.

    Attributes:
        matched: The stop string found, once the decision is final.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Start a stream; ValueError if a stop string is empty."""
        if not all(stops):
            raise ValueError("A stop string is empty; a stop string needs at least one character.")
        self.matched: str | None = None
        self._progress = [_Progress(stop) for stop in dict.fromkeys(stops)]
        self._initials = frozenset(stop[0] for stop in stops)
        self._held = ""
        self._base = 0  # position in the stream of the first held character
        self._best: _Match | None = None

    def push(self, text: str) -> str:
        """Return the text that is now safe to show; nothing any more after a match."""
        if self.matched is not None:
            return ""
        if not self._held and self._initials.isdisjoint(text):
            self._base += len(text)
            return text
        end = self._base + len(self._held)
        self._held += text
        for position, char in enumerate(text, start=end + 1):
            self._feed(char, position)
            if self._best is not None and self._best.start < self._open_from(position):
                return self._settle(self._best)
        return self._take(self._open_from(end + len(text)))

    def finish(self) -> str:
        """Return the text held back, now that no more is coming."""
        if self._best is not None and self.matched is None:
            return self._settle(self._best)
        return self._take(self._base + len(self._held))

    def _feed(self, char: str, position: int) -> None:
        for progress in self._progress:
            if progress.feed(char):
                found = _Match(position - len(progress.stop), progress.stop)
                # A later completion from the same start is the longer one.
                if self._best is None or found.start <= self._best.start:
                    self._best = found

    def _open_from(self, position: int) -> int:
        """Return the earliest position from which an unfinished match may still complete."""
        return position - max((progress.length for progress in self._progress), default=0)

    def _settle(self, match: _Match) -> str:
        self.matched = match.stop
        text = self._take(match.start)
        self._held = ""
        return text

    def _take(self, until: int) -> str:
        """Release held text up to a position of the stream."""
        count = until - self._base
        text, self._held = self._held[:count], self._held[count:]
        self._base = until
        return text
