"""Models on their way from their sources to an engine: how far each has come, for all who wait for it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from helexa.neuron import sources
from helexa.neuron.sources import problems
from helexa.neuron.sources.meter import Meter
from helexa.wire.errors import ApiError
from helexa.wire.fleet import LoadRequest, ModelReport
from helexa.wire.progress import Progress

_REMEMBERED = 64
"""Failures, of models that nobody has asked for since."""


@define(eq=False)
class Fetch:
    """One load, until the engine has it. Begun by `Fetches.shown`.

    Attributes:
        request: what was asked for.
        meter: how far a download is.
        error: why the model could not be loaded.
    """

    request: LoadRequest
    meter: Meter = field(factory=Meter)
    error: str | None = None
    _stop: threading.Event = field(factory=threading.Event)
    _is_here: bool = False
    _fetches: bool = False
    _left: bool = False

    async def resolve(self, source: str | None, registry: str | None) -> str:
        """Have the model's files here; a directory or a GGUF file.

        Whoever waits may go: what has been begun is fetched to its end, or until `stop`, and serves the next who asks.

        Args:
            source: as in the topology.
            registry: the URL of what ``helexa:`` means.

        Raises:
            ApiError: it cannot be had.
        """
        return await trio.to_thread.run_sync(self._resolve, source, registry, abandon_on_cancel=True)

    def _resolve(self, source: str | None, registry: str | None) -> str:
        self._fetches = True  # here, as whoever is cancelled before there is a thread for it leaves nothing behind
        try:
            return sources.resolve(self.request.model, source, self.meter, self._stop, registry)
        except ApiError as error:
            self.failed(error)  # here, as it may be that nobody waits any more
            raise
        finally:
            self._is_here, self._fetches = True, False

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        return Progress("loading") if self._is_here else self.meter.progress

    def failed(self, error: ApiError) -> None:
        """It cannot be loaded. A load that was stopped is no failure of the model's."""
        if error.code != problems.STOPPED:
            self.error = error.message

    def stop(self) -> None:
        """Fetch no further. Never blocks."""
        self._stop.set()

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._left = True

    @property
    def is_over(self) -> bool:
        """Whether nobody waits and nothing comes any more."""
        return self._left and not self._fetches

    @property
    def report(self) -> ModelReport:
        """The model as others see it meanwhile, or afterwards."""
        model, device = self.request.model, self.request.device
        if self.is_over:
            return ModelReport(model, "failed", device, error=self.error)
        return ModelReport(model, "loading", device, progress=self.progress)


@define(eq=False)
class Fetches:
    """All of a host, with the failures of late."""

    _all: list[Fetch] = field(factory=list)

    @contextmanager
    def shown(self, request: LoadRequest) -> Iterator[Fetch]:
        """Show a model as loading while the block runs, and after that if it is still fetched or has failed."""
        fetch = Fetch(request)
        self._forget(request.model)
        self._all.append(fetch)
        try:
            yield fetch
        except ApiError as error:
            fetch.failed(error)
            raise
        finally:
            fetch.leave()

    def stop(self, model: str) -> bool:
        """Fetch a model no further, and forget why it failed; whether there was anything of it."""
        of_it = [fetch for fetch in self._known() if fetch.request.model == model]
        for fetch in of_it:
            fetch.stop()
        self._forget(model)
        return bool(of_it)

    def with_reports(self, told: Iterable[ModelReport]) -> tuple[ModelReport, ...]:
        """What the engines tell, and what they do not know of: what comes, also if it failed before; what failed."""
        coming = {fetch.request.model: fetch.report for fetch in sorted(self._known(), key=_rank)}
        engines = {report.id: report for report in told}
        again = {id_: new for id_, new in coming.items() if id_ not in engines or _replaces(engines[id_], new)}
        return tuple({**engines, **again}.values())

    def _known(self) -> list[Fetch]:
        self._all = [fetch for fetch in self._all if not fetch.is_over or fetch.error is not None]
        return self._all

    def _forget(self, model: str) -> None:
        """What has failed of a model; and the oldest of what has failed at all, if that is much."""
        over = [fetch for fetch in self._known() if fetch.is_over]
        gone = [fetch for fetch in over if fetch.request.model == model] + over[:-_REMEMBERED]
        self._all = [fetch for fetch in self._all if fetch not in gone]


def _rank(fetch: Fetch) -> tuple[bool, int]:
    """The last one tells of its model: of two loads of one model, one waits for what the other fetches."""
    return not fetch.is_over, fetch.progress.done


def _replaces(old: ModelReport, new: ModelReport) -> bool:
    return old.status == "failed" and new.status == "loading"
