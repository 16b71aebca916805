"""Finding a fixed tag in text that arrives in chunks. Pure."""


def partial_suffix(text: str, tag: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `tag`, the whole tag excluded."""
    for length in range(min(len(text), len(tag) - 1), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


class TagScanner:
    """Splits a stream at the next occurrence of one tag, holding back only what may be the tag's beginning."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._partial = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text before the tag, and the text after it or None if the tag has not come yet."""
        before, tag, after = (self._partial + text).partition(self._tag)
        if tag:
            self._partial = ""
            return before, after
        cut = len(before) - partial_suffix(before, self._tag)
        self._partial = before[cut:]
        return before[:cut], None

    def finish(self) -> str:
        """Return what was held back, now known not to be the tag."""
        text, self._partial = self._partial, ""
        return text
