"""How long the parts of a load take."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from attrs import define, field


@define
class Parts:
    """How long each part took.

    Attributes:
        seconds: of each, by its name, in the order in which they began.
    """

    seconds: dict[str, float] = field(factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done inside as ``name``."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + perf_counter() - begun

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count some of one part as another."""
        self.seconds[source] = self.seconds.get(source, 0) - seconds  # which may still be going on
        self.seconds[target] = self.seconds.get(target, 0) + seconds
