"""How much of a limit a gateway gets to hold. Pure."""

from typing import Final

from attrs import frozen

from helexa.cortex.ledger.rows import Leased, Want

_PART: Final = 8
"""A gateway among others gets this part of what is left, beyond its need: each comes rarely, and none takes it all."""


@frozen
class Standing:
    """What the database says of a limit.

    Attributes:
        spent: what counts of all that was booked.
        frees: see ``Leased``.
        own: the lease of the gateway that asks.
        others: those of other gateways.
        alone: whether no other gateway was seen lately.
    """

    spent: int
    frees: tuple[tuple[float, int], ...]
    own: int
    others: int
    alone: bool


def share(want: Want, standing: Standing) -> Leased:
    """Decide what a gateway gets: ``spent`` and all leases are then at most the cap, unless they were more before.

    A lease that the gateway has and the database does not know was taken from it when it was thought dead: it comes
    back as far as there is room.
    """
    own = standing.own
    room = want.limit.cap - standing.spent - standing.others - own
    held = own + min(want.have - own, max(room, 0))
    room -= held - own
    granted = _granted(want, room, alone=standing.alone)
    return Leased(
        want.limit, held + granted, granted, standing.spent, standing.others, max(room - granted, 0), standing.frees
    )


def _granted(want: Want, room: int, *, alone: bool) -> int:
    if room < max(want.need, 0):
        return 0
    if want.wish is not None:
        return max(want.need, min(want.wish, room))
    return room if alone else want.need + (room - want.need) // _PART
