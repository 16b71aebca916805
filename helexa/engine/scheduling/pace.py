"""How long a model's steps take, and what they bring."""

from attrs import define, frozen


@frozen
class Pace:
    """How large the step under way, or the last one, is, and what those before it were; as in ``Heartbeat``."""

    tokens: int = 0
    longest: float = 0.0
    largest: int = 0


@define(eq=False)
class Steps:
    """What steps have taken and brought so far. Written by the thread that steps, read by another.

    Attributes:
        longest: seconds of the longest; before there is one, of those that the model was tried out with.
        largest: tokens of the largest.
        planned: tokens of the step under way, or the last one.
        count: how many there were.
        seconds: what they took together.
        tokens: that they computed.
        picked: tokens that they generated.
    """

    longest: float
    largest: int = 0
    planned: int = 0
    count: int = 0
    seconds: float = 0.0
    tokens: int = 0
    picked: int = 0

    def add(self, seconds: float, tokens: int, picked: int) -> None:
        """A step has ended."""
        self.longest = max(self.longest, seconds) if self.count else seconds
        self.largest = max(self.largest, tokens)
        self.count += 1
        self.seconds += seconds
        self.tokens += tokens
        self.picked += picked
