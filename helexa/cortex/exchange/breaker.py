"""Keeps requests away from a provider that is down. Pure: the time is told.

Closed, it lets everything through. After ``FAILURES`` failures in a row it opens: nothing goes through for
``OPEN_SECONDS``. Then it is half-open: one request goes through and decides, while all others are still kept away. A
success closes it, a failure opens it for twice as long as before, up to ``LONGEST_SECONDS``.
"""

from typing import Literal

from attrs import define, field, frozen

FAILURES = 5
OPEN_SECONDS = 30.0
LONGEST_SECONDS = 300.0
_SOON_SECONDS = 1.0
"""How long those wait whom a probe under way keeps out: it decides soon, and nobody knows when."""

State = Literal["closed", "open", "half-open"]


@frozen
class Pass:
    """One request that was let through; handed back with its outcome.

    Attributes:
        round: how often the breaker had opened or closed when the request was let through. What a request from before
            that tells is old news.
        probe: whether it is the one that decides.
    """

    round: int
    probe: bool


@define(eq=False)
class Breaker:
    """The state of one provider. Times in seconds of any clock that only goes forward."""

    _failures: int = 0
    _open_until: float | None = None
    _open_seconds: float = OPEN_SECONDS
    _probing: bool = False
    _round: int = field(default=0)

    def state(self, now: float) -> State:
        """What it does with the next request."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def admit(self, now: float) -> Pass | None:
        """Let a request through, or not. Whoever gets a pass calls ``settle`` with it, once."""
        if self._open_until is None:
            return Pass(self._round, probe=False)
        if now < self._open_until or self._probing:
            return None
        self._probing = True
        return Pass(self._round, probe=True)

    def settle(self, given: Pass, now: float, *, worked: bool | None) -> None:
        """Take an outcome; ``None``: the request was given up before there was one."""
        if given.round != self._round:
            return
        if given.probe:
            self._probing = False
        if worked:
            self._close()
        elif worked is False:
            self._fail(now, probe=given.probe)

    def wait(self, now: float) -> float:
        """Seconds until the next request may be let through; 0 if it may be now."""
        if self._open_until is None:
            return 0.0
        return max(self._open_until - now, _SOON_SECONDS if self._probing else 0.0)

    def _close(self) -> None:
        self._failures, self._open_seconds = 0, OPEN_SECONDS
        if self._open_until is not None:
            self._open_until = None
            self._round += 1

    def _fail(self, now: float, *, probe: bool) -> None:
        self._failures += 1
        if probe:
            self._open_seconds = min(2 * self._open_seconds, LONGEST_SECONDS)
        elif self._failures < FAILURES:
            return
        self._open_until = now + self._open_seconds
        self._round += 1
