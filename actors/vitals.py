"""Whether an engine worker process is alive, judged by what it says and by how long it has said nothing. Pure."""

from attrs import define

from helexa.engine.protocol import VERSION, Heartbeat, Hello

HELLO_SECONDS = 120.0
"""Importing torch from a cold disk can take most of a minute."""
SILENCE_SECONDS = 15.0
"""A worker beats every second from a thread of its own; one this long without a beat is stopped or wedged."""
STALL_SECONDS = 300.0
"""No step takes this long; a load may."""


@define
class Vitals:
    """The signs of life of one process. Times are seconds on one monotonic clock.

    Attributes:
        heard: when the last frame came, at first when the process was started.
        greeted: its ``Hello`` has come.
        verdict: why the process has to be ended, once that is so.
    """

    heard: float
    greeted: bool = False
    verdict: str | None = None
    _stalled: float = 0.0

    def greet(self, hello: Hello) -> None:
        """Take the worker's first frame."""
        self.greeted = True
        if hello.version != VERSION:
            self.verdict = f"it speaks version {hello.version} of the frame protocol, and this neuron version {VERSION}"

    def beat(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat."""
        self._stalled = 0.0 if heartbeat.loading else heartbeat.stalled_seconds

    def judge(self, now: float) -> str | None:
        """Why the process has to be ended now; ``None`` while it may live."""
        silence = now - self.heard
        if self.verdict is None and silence > (SILENCE_SECONDS if self.greeted else HELLO_SECONDS):
            self.verdict = f"it gave no sign of life for {silence:.0f} s"
        if self.verdict is None and self._stalled > STALL_SECONDS:
            self.verdict = f"one step has been running for {self._stalled:.0f} s"
        return self.verdict
