"""Logs of helexa's processes: key=value lines on stderr, one event a line, and the latest of them at hand."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from itertools import count
from typing import Any, Final

import structlog
from attrs import field, frozen

CAPACITY: Final = 2000
_PLAIN: Final = (str, int, float, bool, type(None))


@frozen
class Line:
    """One event of a log.

    Attributes:
        id: its number; each line's is one more than the one's before.
        time: when, Unix time in seconds.
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        event: what, e.g. ``model.loaded``.
        fields: everything else; what is no number or flag is text.
    """

    id: int
    time: float
    level: str
    event: str
    fields: Mapping[str, Any] = field(factory=dict)


class LogBook:
    """The last lines of this process's log, for who asks over HTTP.

    Args:
        capacity: how many are kept.
        clock: Unix time in seconds.
    """

    def __init__(self, capacity: int = CAPACITY, clock: Callable[[], float] = time.time) -> None:
        self._ring: deque[tuple[int, float, MutableMapping[str, Any]]] = deque(maxlen=capacity)
        self._clock = clock
        # Not 0: a reader must not find its number in use again after a restart. A counter, as threads log, too.
        self._numbers = count(int(clock() * 1000) + 1)

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep a line on its way through structlog's processors. Copied, as those after this one change it."""
        kept = dict(event)
        error = _raised(kept.pop("exc_info", None))  # itself it would keep alive what its traceback refers to
        if error is not None:
            kept.setdefault("error", f"{type(error).__name__}: {error}".removesuffix(": "))
        self._ring.append((next(self._numbers), self._clock(), kept))
        return event

    def since(self, after: int, limit: int) -> tuple[Line, ...]:
        """The lines after number ``after``, oldest first; of more than ``limit`` the latest.

        A number that this book has not come to yet is another process's: everything is new to its reader then.
        """
        kept = tuple(self._ring)
        if kept and after <= kept[-1][0]:
            kept = tuple(each for each in kept if each[0] > after)
        return tuple(_line(*each) for each in kept[-limit:])


def _line(number: int, at: float, said: Mapping[str, Any]) -> Line:
    fields = {name: _plain(value) for name, value in said.items() if name not in ("event", "level")}
    return Line(number, at, str(said.get("level", "info")), str(said.get("event", "")), fields)


def _raised(told: Any) -> BaseException | None:
    """The error that a line is about, in any of the ways in which ``logging`` may be told of it."""
    if isinstance(told, tuple):
        return told[1] if len(told) > 1 and isinstance(told[1], BaseException) else None
    return told if isinstance(told, BaseException) else sys.exc_info()[1] if told else None


def _plain(value: Any) -> Any:
    return value if isinstance(value, _PLAIN) else str(value)


book: Final = LogBook()
"""This process's."""


def _without_expected_traceback(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where a line already says the error in words, its traceback is for debugging only."""
    if "error" in event and not logging.getLogger("helexa").isEnabledFor(logging.DEBUG):
        event.pop("exc_info", None)
    return event


def configure() -> None:
    """Set up structlog and the standard library's logging, once per process. ``HELEXA_LOG`` sets the level."""
    level = logging.getLevelNamesMapping().get(os.environ.get("HELEXA_LOG", "info").upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            book,
            structlog.processors.TimeStamper(fmt="%H:%M:%S"),
            _without_expected_traceback,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
            if sys.stderr.isatty()
            else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("helexa").setLevel(level)
