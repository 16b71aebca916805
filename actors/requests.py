"""The requests of one engine worker: frames find their way to them here, and their choices are counted.

They outlive the worker's process. When one dies, its requests wait here for the next, which goes on where the last one
was. Those that were running come first, one at a time, each until it has brought a token: so if one of them is what
kills the process, the next death tells which. What only waited in the dead process, and what has come since, follows.
"""

import math
from collections.abc import Callable

from attrs import define, evolve, field

from actors.generation import LiveGeneration
from helexa.engine.protocol import Abort, Began, Command, Failed, Finished, ProtocolError, Submit, Tokens
from helexa.neuron.ports import End
from helexa.wire.sampling import SamplingParams

DEATHS = 2
"""At so many in a row that had no step with a token of its own between them, a request is taken for the cause."""
DEATHS_IN_ALL = 3
"""At so many in a row it is, whatever came of it in between: some faults take a while to show."""


@define(eq=False)
class _Entry:
    """A request on its way.

    Attributes:
        sent: the present process knows it.
        running: it has a part in that process's steps.
        advanced: that process has brought tokens of it.
        deaths: of processes in a row, at which it was running.
        deadline: until when it waits for a process that serves its model, since it last advanced.
    """

    submit: Submit
    generation: LiveGeneration
    sent: bool = False
    running: bool = False
    advanced: bool = False
    deaths: int = 0
    deadline: float = math.inf

    @property
    def convicted(self) -> bool:
        """Whether the death of its process shows it to be the cause."""
        return self.running and not self.advanced and self.deaths + 1 >= DEATHS

    def survive(self, *, known: bool, blameless: bool) -> bool:
        """Its process is dead; whether it may go on in another.

        Args:
            known: the cause is.
            blameless: and is no request.
        """
        guilty = self.convicted and not blameless
        if self.running and not known:
            self.deaths += 1
            guilty = guilty or self.deaths >= DEATHS_IN_ALL
        elif self.advanced:
            self.deaths = 0
        self.sent = self.running = self.advanced = False
        return not guilty


@define(eq=False)
class Requests:
    """Requests by the name they have on the socket.

    A request is here until each of its choices has ended or its reader has closed it. What the worker still says of one
    that is not here any more, or of a choice that has ended, is passed over: an abort and a step cross on their way.

    Attributes:
        device: what the worker runs on; the names begin with it.
        send: takes a frame to the worker; never waits.
        choices: those that have not ended, over all requests.
    """

    device: str
    send: Callable[[Command], None]
    choices: int = 0
    _live: dict[str, _Entry] = field(factory=dict)
    _submitted: int = 0
    _ready: set[str] = field(factory=set)
    _probe: str | None = None

    def submit(self, model: str, prompt_ids: list[int], sampling: SamplingParams, key: str) -> LiveGeneration:
        """Start a request for a model that the present process serves."""
        self._submitted += 1
        request = f"{self.device}/{self._submitted}"
        generation = LiveGeneration(sampling.n, lambda index: self._abort(request, index))
        entry = self._live[request] = _Entry(Submit(request, model, prompt_ids, sampling, key), generation)
        self.choices += sampling.n
        if self._probe is None:
            self._send(entry)
        return generation

    # What the worker says

    def begin(self, frame: Began) -> None:
        """These run from now on."""
        for request in frame.requests:
            if (entry := self._live.get(request)) is not None:
                entry.running = True

    def extend(self, frame: Tokens) -> None:
        """What a step has brought.

        Raises:
            ProtocolError: a choice that the request does not have.
        """
        for delta in frame.deltas:
            if (entry := self._find(delta.request, delta.index)) is not None:
                entry.generation.extend(delta.index, delta.ids, delta.logprobs)
                if not entry.advanced:
                    entry.advanced, entry.running, entry.deadline = True, True, math.inf
                    self._cleared(delta.request)

    def finish(self, frame: Finished) -> None:
        """One choice has ended.

        Raises:
            ProtocolError: the request does not have it.
        """
        if (entry := self._find(frame.request, frame.index)) is not None:
            self._finish(entry, frame.index, End(frame.reason, cached_tokens=frame.cached_tokens))

    def fail(self, frame: Failed) -> None:
        """A request has ended, all its choices."""
        self._end(frame.request, End("failed", frame.code, sentence(frame.error)))

    # What becomes of its process

    def suspend(self, reason: str, deadline: float, *, blameless: bool = False) -> None:
        """The process is dead. What it served waits for the next one, but for what is taken for the cause.

        Args:
            reason: how the process ended.
            deadline: until when to wait, on trio's clock.
            blameless: the cause is known, and no request: it did not compute anything.
        """
        self._ready, self._probe = set(), None
        known = blameless or any(entry.convicted for entry in self._live.values())
        for request, entry in list(self._live.items()):
            if entry.survive(known=known, blameless=blameless):
                entry.deadline = min(entry.deadline, deadline)
                self._hold(request, entry)
            else:
                self._end(request, End("failed", "upstream_error", self._guilt(entry, reason)))

    def resume(self, model: str) -> None:
        """The present process serves a model: its requests go on."""
        self._ready.add(model)
        for entry in self._held(model):
            entry.generation.wait_until(math.inf, lambda: None)
        self._admit()

    def drop(self, model: str, error: str) -> None:
        """No process will serve a model: end those of its requests that wait for one."""
        self._ready.discard(model)
        for entry in self._held(model):
            self._end(entry.submit.request, End("failed", "upstream_error", error))

    def lose(self, error: str) -> None:
        """There will be no other process: every request ends."""
        self._ready, self._probe = set(), None
        for request in list(self._live):
            self._end(request, End("failed", "upstream_error", error))

    def _hold(self, request: str, entry: _Entry) -> None:
        before = entry.generation.live
        entry.generation.finish_stopped()
        self._count(entry, before)
        entry.generation.wait_until(entry.deadline, lambda: self._give_up(request))

    def _give_up(self, request: str) -> None:
        error = f"The engine worker of {self.device} is gone, and no other one came in time."
        self._end(request, End("failed", "service_unavailable", error))

    def _guilt(self, entry: _Entry, reason: str) -> str:
        times = max(DEATHS, entry.deaths)
        died = f"The engine worker of {self.device} has died {times} times in a row while it ran this request"
        return f"{died} ({reason}). It is not tried again."

    # Who goes on when

    def _held(self, model: str) -> list[_Entry]:
        return [each for each in self._live.values() if not each.sent and each.submit.model == model]

    def _admit(self) -> None:
        """Send what waits: one that was running at a death, and nothing before it has shown itself harmless."""
        held = [each for each in self._live.values() if not each.sent and each.submit.model in self._ready]
        suspects = [each for each in held if each.deaths]
        if self._probe is None and suspects:
            self._probe = suspects[0].submit.request
            self._send(suspects[0])
        elif self._probe is None:
            for entry in held:
                self._send(entry)

    def _cleared(self, request: str) -> None:
        if request == self._probe:
            self._probe = None
            self._admit()

    def _send(self, entry: _Entry) -> None:
        entry.sent = True
        self.send(evolve(entry.submit, progress=entry.generation.so_far()))

    # Ends

    def _finish(self, entry: _Entry, index: int, end: End) -> None:
        before = entry.generation.live
        entry.generation.finish(index, end)
        self._count(entry, before)

    def _count(self, entry: _Entry, before: int) -> None:
        """Take note of choices that have ended since there were ``before``."""
        self.choices -= before - entry.generation.live
        if not entry.generation.live and self._live.pop(entry.submit.request, None) is not None:
            self._cleared(entry.submit.request)

    def _end(self, request: str, end: End) -> None:
        if (entry := self._live.get(request)) is not None:
            before = entry.generation.live
            entry.generation.finish_all(end)
            self._count(entry, before)

    def _find(self, request: str, index: int) -> _Entry | None:
        entry = self._live.get(request)
        if entry is not None and not 0 <= index < entry.generation.choices:
            raise ProtocolError(f"a choice {index} of a request for {entry.generation.choices}")
        return entry

    def _abort(self, request: str, index: int | None) -> None:
        """Its reader wants no more of a request, or of one choice."""
        entry = self._live[request]
        if entry.sent:
            self.send(Abort(request, index))
        if index is None:
            self._forget(request, entry)
        elif not entry.sent:
            self._finish(entry, index, End("abort"))

    def _forget(self, request: str, entry: _Entry) -> None:
        del self._live[request]
        self.choices -= entry.generation.live
        self._cleared(request)


def sentence(reason: str) -> str:
    """A worker's reason, which may be half a sentence or a whole one, for the caller to read."""
    return f"{reason[:1].upper()}{reason[1:].removesuffix('.')}."
