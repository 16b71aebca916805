"""The benchmark loop: when it measures, what, and where it keeps what it finds."""

import re
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from attrs.validators import optional

from config import validators as v
from config.access import without_slash
from config.address import Address
from config.budgets import LARGEST_COUNT
from config.problems import InvalidValueError, show
from config.units import Duration

Suite: TypeAlias = Literal["quick", "standard", "full"]

_HOURS: Final = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_HOURS_HINT: Final = 'two times of the day, such as "01:00-06:00" or "22:00-04:30"'
_HOUR: Final = 60
_DAY: Final = 24 * _HOUR


@frozen
class Hours:
    """A part of the day by the host's clock; one that ends before it begins goes over midnight.

    Attributes:
        begin: Minutes after midnight of its first minute.
        end: Likewise, of the first minute after it; 1440 is the end of the day.
    """

    begin: int
    end: int

    @classmethod
    def parse(cls, text: object) -> "Hours":
        """Read "01:00-06:00".

        Raises:
            InvalidValueError: The text is no part of a day.
        """
        match = _HOURS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidValueError(f"{show(text)} is not a part of the day", _HOURS_HINT)
        begin, end = _minute(match[1], match[2]), _minute(match[3], match[4])
        if begin is None or end is None or begin == _DAY:
            raise InvalidValueError(f"{show(text)} has a time that no clock shows", _HOURS_HINT)
        if begin == end:
            raise InvalidValueError(f"{show(text)} ends where it begins", "leave it out for the whole day")
        return cls(begin, end)

    def __str__(self) -> str:
        return f"{_clock(self.begin)}-{_clock(self.end)}"

    def contains(self, minute: int) -> bool:
        """Whether a minute of the day, counted from midnight, is part of it."""
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


def _minute(hours: str, minutes: str) -> int | None:
    found = int(hours) * _HOUR + int(minutes)
    return found if int(minutes) < _HOUR and found <= _DAY else None


def _clock(minute: int) -> str:
    return f"{minute // _HOUR:02}:{minute % _HOUR:02}"


@frozen
class BenchTarget:
    """A server outside the fleet that is measured beside it; anything that speaks OpenAI's protocol.

    Attributes:
        name: What results call it.
        base_url: As for a provider of kind "openai", with `/v1` at its end or without.
        models: Their names there. None is measured that is not named: it may cost money, or be loaded for it.
        api_key_env: The environment variable with its key; absent: no key is sent.
    """

    name: str = field(validator=v.name)
    base_url: str = field(converter=without_slash, validator=v.url)
    models: tuple[str, ...] = field(validator=[v.not_empty, v.each(v.slug), v.distinct])
    api_key_env: str | None = field(default=None, validator=optional(v.environment))


@frozen
class Bench:
    """The benchmark loop.

    Attributes:
        listen: Where it serves what it found.
        database: Where that is kept: `sqlite:///path` or `postgresql://…`; it may be the gateway's.
        interval: Seconds between two runs of the same, so that they are spread over time; infinity: a single one after
            each start.
        samples_per_build: Runs of each scenario for one build of a model on a target; with so many, it is left alone.
        rounds: How often a run measures.
        suite: Which scenarios.
        hours: The part of the day in which runs may begin; None: all of it.
        retention: Seconds that runs are kept.
        targets: Servers outside the fleet.
    """

    listen: Address = field(default=Address("127.0.0.1", 31315))
    database: str = field(default="sqlite:///~/.local/state/helexa/bench.db", validator=v.database, repr=False)
    interval: Duration = field(default=Duration(1800.0), validator=v.positive("30m"))
    samples_per_build: int = field(default=5, validator=v.between(1, LARGEST_COUNT))
    rounds: int = field(default=5, validator=v.between(1, 1000))
    suite: Suite = "quick"
    hours: Hours | None = None
    retention: Duration = field(default=Duration(400 * 86_400.0), validator=v.positive("400d"))
    targets: tuple[BenchTarget, ...] = ()
