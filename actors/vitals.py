"""Whether an engine worker process is alive, judged by what it says and by how long it has said nothing. Pure."""

from attrs import define

from helexa.engine.protocol import VERSION, Heartbeat, Hello

HELLO_SECONDS = 120.0
"""Importing torch from a cold disk can take most of a minute."""
SILENCE_SECONDS = 15.0
"""A worker beats every second from a thread of its own; one this long without a beat is stopped or wedged."""
LOAD_SECONDS = 300.0
"""So long a load may read nothing, unless the topology says otherwise: a network's files may be away for a while, and
what has been read is arranged, tried out and captured at its end."""
STALL_SECONDS = 300.0
"""A step like which there was none before, of a model that was quick when it was tried out: kernels may be compiled."""
STEP_SECONDS = 30.0
"""What a step may take beyond what steps take: a busy host, memory that is being swapped, a kernel that is loaded."""
FACTOR = 20.0
"""So much longer than the longest so far a step no larger may take: its contexts may be longer by far."""
_OUTLIER = 3.0
"""And so much longer if that was very long itself: one that hung, and came to an end, must not hide the next."""


@define
class Vitals:
    """The signs of life of one process. Times are seconds on one monotonic clock.

    Attributes:
        heard: when the last frame came, at first when the process was started.
        load_seconds: how long a load may read nothing.
        greeted: its ``Hello`` has come.
        loading: the model that it loads.
        verdict: why the process has to be ended, once that is so.
        load_hangs: that is why.
    """

    heard: float
    load_seconds: float = LOAD_SECONDS
    greeted: bool = False
    loading: str | None = None
    verdict: str | None = None
    load_hangs: bool = False
    _last: Heartbeat | None = None

    def greet(self, hello: Hello) -> None:
        """Take the worker's first frame."""
        self.greeted = True
        if hello.version != VERSION:
            self.verdict = f"it speaks version {hello.version} of the frame protocol, and this neuron version {VERSION}"

    def beat(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat."""
        self._last = heartbeat

    def judge(self, now: float) -> str | None:
        """Why the process has to be ended now; ``None`` while it may live."""
        silence = now - self.heard
        if self.verdict is None and silence > (SILENCE_SECONDS if self.greeted else HELLO_SECONDS):
            self.verdict = f"it gave no sign of life for {silence:.0f} s"
        if self.verdict is None and self._last is not None:
            self.verdict = self._overdue(self._last)
        return self.verdict

    def _overdue(self, last: Heartbeat) -> str | None:
        """Why what it does takes too long."""
        stalled = last.stalled_seconds
        if not last.loading:
            return f"one step has been running for {stalled:.0f} s" if stalled > patience(last) else None
        self.load_hangs = stalled > self.load_seconds
        return f"its load came no further for {stalled:.0f} s" if self.load_hangs else None


def patience(last: Heartbeat) -> float:
    """Seconds that the step under way may take.

    Without a look at other steps the bound would have to be that of the largest model on the slowest host, and a quick
    one that hangs would keep its clients waiting for as long. A step that is larger than all before has no measure but
    the two small ones that the model was tried out with.
    """
    if last.tokens > last.largest or not last.largest:
        return max(STALL_SECONDS, FACTOR * last.longest)
    return min(STEP_SECONDS + FACTOR * last.longest, max(STALL_SECONDS, _OUTLIER * last.longest))
