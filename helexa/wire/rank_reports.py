"""What a neuron tells of the ranks that it runs for groups that others lead. They serve no requests."""

from typing import Literal

from attrs import frozen

RankStatus = Literal["starting", "running", "failed"]


@frozen
class RankReport:
    """One rank.

    Attributes:
        group: the name of its group.
        device: torch's name of the device that it has.
        rank: its number.
        ranks: how many the group has.
        status: ``running``: its process is there, with or without the others; ``failed``: it is not started again.
        restarts: how often its process was started again.
        error: how its last process ended.
    """

    group: str
    device: str
    rank: int
    ranks: int
    status: RankStatus
    restarts: int = 0
    error: str | None = None


@frozen
class RankList:
    """``GET /ranks``."""

    ranks: tuple[RankReport, ...] = ()
