"""How far a model has come on its way from its source to being served."""

from typing import Literal

from attrs import frozen

Phase = Literal["resolving", "downloading", "loading"]


@frozen
class Progress:
    """A model that is not served yet.

    Attributes:
        phase: ``resolving``: asking what there is to fetch; ``downloading``; ``loading``: files to device.
        done: bytes that are here, whatever brought them.
        total: bytes in all; 0 while nobody knows.
        rate: bytes per second, of late; 0 while nothing moves.
        seconds_left: at that rate; ``None`` where nothing can be said.
    """

    phase: Phase
    done: int = 0
    total: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
