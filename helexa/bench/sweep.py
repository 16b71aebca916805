"""What the loop measures next, and when it goes on. Pure: what there is, what is known of it and the time go in."""

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from attrs import frozen

from config import Hours
from helexa.bench.records import Cell, Outcome

YIELDED_SECONDS: Final = 60.0
"""Until a cell is tried again that users interrupted, or kept from being begun; twice as long each further time."""
FAILED_SECONDS: Final = 600.0
"""Likewise, after it failed."""
LONGEST_SECONDS: Final = 4 * 3600.0
LEAST_SECONDS: Final = 5.0
"""Between two rounds: a round looks at every target, which costs each a few small requests."""
MOST_SECONDS: Final = 15.0
"""Likewise. It is not the interval: a model may well be loaded and gone again within that, and never be seen."""
_MOST_DOUBLINGS: Final = 20

Name: TypeAlias = tuple[str, str]
"""What rests: a cell of a build, or a target as a whole."""


@frozen
class Want:
    """A cell that could be measured now.

    Attributes:
        cell: what.
        build: id of the build that it would be a run of.
        done: how many runs there are of both.
    """

    cell: Cell
    build: str
    done: int

    @property
    def name(self) -> Name:
        """What it rests under: another build is another matter."""
        return self.cell.key, self.build


@frozen
class Rest:
    """Something is left alone for a while.

    Attributes:
        until: on a clock that does not jump, in seconds; infinity: as long as this process runs.
        setbacks: how often in a row it did not work out.
    """

    until: float
    setbacks: int = 0


Rests: TypeAlias = Mapping[Name, Rest]


def target_name(target: str) -> Name:
    """What a target as a whole rests under."""
    return target, ""


def is_resting(name: Name, rests: Rests, now: float) -> bool:
    """Whether something is to be left alone."""
    rest = rests.get(name)
    return rest is not None and now < rest.until


def due(wants: Iterable[Want], enough: int, rests: Rests, now: float) -> list[Want]:
    """What to measure, in this order: what there is least of goes first, so that every cell is soon known a little.

    Of those, what has not worked out lately goes last: a long one would otherwise keep being begun and broken off.

    Args:
        wants: what could be measured.
        enough: how many runs of a cell one build needs.
        rests: what is left alone.
        now: on their clock.
    """
    found = [want for want in wants if want.done < enough and not is_resting(want.name, rests, now)]
    return sorted(found, key=lambda want: (want.done, _setbacks(rests.get(want.name))))  # otherwise as they come


def _setbacks(rest: Rest | None) -> int:
    return 0 if rest is None else rest.setbacks


def rest_after(outcome: Outcome, before: Rest | None, interval: float, now: float) -> Rest:
    """How long something is left alone, given how it went.

    What was skipped will hardly do later what it cannot do now; or its model had just gone, and comes back.

    Args:
        outcome: how it went.
        before: its last rest.
        interval: seconds between two runs that succeed, so that they are spread over time.
        now: on the clock of rests.
    """
    if outcome == "ok":
        return Rest(now + interval)
    setbacks = _setbacks(before) + 1
    if outcome == "skipped":
        return Rest(now + LONGEST_SECONDS, setbacks)
    first = YIELDED_SECONDS if outcome == "yielded" else FAILED_SECONDS
    return Rest(now + min(LONGEST_SECONDS, first * 2.0 ** min(setbacks - 1, _MOST_DOUBLINGS)), setbacks)


def next_round(rests: Rests, now: float) -> float:
    """When to look at everything again: when something has rested, and soon in any case, for models come and go.

    Args:
        rests: what is left alone.
        now: when the last round ended, on the clock of rests.
    """
    soonest = min((rest.until for rest in rests.values() if rest.until > now), default=math.inf)
    return max(now + LEAST_SECONDS, min(soonest, now + MOST_SECONDS))


def still_resting(rests: Rests, now: float) -> dict[Name, Rest]:
    """Without what has long been over. Setbacks are remembered for as long as they would have rests be at most."""
    return {name: rest for name, rest in rests.items() if now < rest.until + LONGEST_SECONDS}


def may_begin(hours: Hours | None, minute: int) -> bool:
    """Whether runs may begin at a minute of the day."""
    return hours is None or hours.contains(minute)


def oldest_kept(retention: float, newest: float | None, now: float) -> float | None:
    """What began before this is deleted; ``None``: nothing is.

    Counted from the newest run where that is earlier than now: a clock that is years ahead, as after a flat battery,
    would otherwise have everything deleted.

    Args:
        retention: seconds that runs are kept; infinity: for ever.
        newest: when the newest run began, Unix time in seconds; ``None``: there is none.
        now: Unix time in seconds.
    """
    if newest is None or math.isinf(retention):
        return None
    return min(newest, now) - retention
