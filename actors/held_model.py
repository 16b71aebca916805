"""A model that a device's worker is to hold, through every restart of its process, and what others are told of it."""

import math
from typing import Any

import trio
from attrs import define, evolve, field

from helexa.engine.protocol import Load, Loaded, Loading, ModelLoad
from helexa.neuron.sources.meter import Meter
from helexa.wire.fleet import KvCache, Limit, ModelReport, ModelStatus, Steps
from helexa.wire.progress import Progress

DEATHS = 2
"""Of so many processes in a row that were loading a model, it is taken for the cause."""
REFUSED_SECONDS = 600.0
"""So long it is not loaded again then, whoever asks: each attempt ends what the device's other models are doing."""
_AFTER_A_DEATH: dict[ModelStatus, ModelStatus] = {"loaded": "recovering", "failed": "loading"}
"""What becomes of a model when its process dies: the next one tries each again."""


@define(eq=False)
class HeldModel:
    """A model from when somebody wants it until it is unloaded. Times are on trio's clock.

    Attributes:
        load: what its process is told.
        deaths: of processes in a row that were loading it.
        settled: set while it serves or has failed.
    """

    load: Load
    _report: ModelReport
    deaths: int = 0
    settled: trio.Event = field(factory=trio.Event)
    _refused_until: float | None = None
    _meter: Meter | None = None

    @property
    def report(self) -> ModelReport:
        """What others see of it now."""
        return self._report if self._meter is None else evolve(self._report, progress=_progress(self._meter))

    # What its process says

    def advance(self, frame: Loading) -> None:
        """It is being loaded, and so far."""
        self._meter = self._meter or Meter(trio.current_time)
        self._meter.begin(frame.total)
        self._meter.fetched(frame.done - self._meter.progress.done)

    def serve(self, frame: Loaded) -> None:
        """It can take requests."""
        self.deaths = 0
        self.settle(evolve(self._report, **_loaded(frame)))

    def note(self, load: ModelLoad) -> None:
        """How busy it is."""
        self._report = evolve(self._report, **_told(load))

    # What becomes of it

    def settle(self, report: ModelReport) -> None:
        """It serves, has failed, or is not wanted any more: who waits for it need not wait any longer."""
        self._report, self._meter = report, None
        self.settled.set()

    def fail(self, error: str) -> None:
        """It cannot be loaded."""
        self.settle(evolve(self._report, status="failed", error=error))

    def lose(self) -> None:
        """Its process is gone, and the next one is to load it, unless it is refused."""
        self._meter = None
        if not self.is_condemned and (status := _AFTER_A_DEATH.get(self._report.status)) is not None:
            self._report = evolve(self._report, status=status, running=0, waiting=0, error=None, kv=None, steps=None)
            self.settled = trio.Event()

    # When its load is what ends processes

    def blame(self, reason: str, *, hangs: bool) -> str | None:
        """A process has died while it was loading it. At the second time, or if it hung, no process is to try again.

        A hang is not tried twice: those who wait for it, and for the device's other models, have waited long enough.

        Args:
            reason: how the process ended.
            hangs: it had to be ended, since the load came no further.

        Returns:
            Why it has failed; ``None`` while it has not.
        """
        self.deaths = max(self.deaths + 1, DEATHS if hangs else 0)
        if self.deaths < DEATHS:
            return None
        self._refused_until = trio.current_time() + REFUSED_SECONDS
        times = f"has died {self.deaths} times in a row while it loaded this model"
        died = "was ended while it loaded this model" if hangs else times
        return f"the engine worker of {self._report.device} {died} ({reason})"

    @property
    def is_condemned(self) -> bool:
        """Whether no process is to load it by itself."""
        return self._refused_until is not None

    def refused_seconds(self, load: Load) -> int:
        """How long it is not to be tried again, also if somebody asks; 0: not at all, as if it is asked otherwise."""
        if self._refused_until is None or load != self.load:
            return 0
        return math.ceil(max(0.0, self._refused_until - trio.current_time()))

    def forgive(self) -> None:
        """Somebody wants its device to begin anew: it may be tried again, once."""
        if self._refused_until is not None:
            self._refused_until = -math.inf


def _progress(meter: Meter) -> Progress:
    return evolve(meter.progress, phase="loading")


def _loaded(frame: Loaded) -> dict[str, Any]:
    """What a report says of a model from now on."""
    return {
        "status": "loaded",
        "memory_mb": frame.memory_mb,
        "kv_mb": frame.kv_mb,
        "capacity": frame.capacity,
        "limit": _limit(frame),
        "error": None,
    }


def _limit(loaded: Loaded) -> Limit:
    """What fits: at least one token must be left for the answer."""
    context = loaded.context_length
    return Limit(context=context, input=context - 1, output=context - 1)


def _told(load: ModelLoad) -> dict[str, Any]:
    """What a report says of a model at work."""
    steps = Steps(load.steps, load.step_seconds, load.step_tokens, load.new_tokens)
    return {"running": load.running, "waiting": load.waiting, "kv": _kv(load), "steps": steps}


def _kv(load: ModelLoad) -> KvCache | None:
    """``None`` where the worker has made no cache yet."""
    if not load.blocks_total:
        return None
    return KvCache(
        load.blocks_total,
        load.blocks_free,
        load.blocks_cached,
        load.prefix_queries,
        load.prefix_hits,
        load.preemptions,
    )
