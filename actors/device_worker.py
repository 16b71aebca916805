"""Owns one device's engine worker: its process, its models, its requests.

When the process dies, however it dies, its models read ``recovering``, the supervisor runs this actor again, the new
process loads the same models, and the requests go on where they were. Nothing is carried over but the list of models
and each request's tokens: a fresh process is the only cure for a broken device context.
"""

import math
from contextlib import suppress

import structlog
import trio

from actors.actor import Actor
from actors.engine_link import EngineLink
from actors.generation import LiveGeneration
from actors.held_model import HeldModel
from actors.process import ProcessStuckError
from actors.requests import Requests
from actors.supervisor import ForgivenError
from actors.vitals import LOAD_SECONDS, Vitals
from config import Quant
from helexa.engine import protocol
from helexa.engine.protocol import (
    Began,
    Command,
    Dying,
    Failed,
    Finished,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Tokens,
    Unload,
    Unloaded,
)
from helexa.neuron import hosts
from helexa.wire import errors
from helexa.wire.fleet import ModelReport
from helexa.wire.sampling import SamplingParams

MAX_LIVE_REQUESTS = 4096
"""Counted by choices: a request for eight is as much work as eight requests for one."""
STOP_SECONDS = 2.0
RECOVERY_SECONDS = 600.0
"""How long a request waits for a new process to serve its model, unless the topology says otherwise."""
_log = structlog.get_logger()


class WorkerDiedError(Exception):
    """The engine worker's process ended, or had to be ended."""


class LoadKilledError(WorkerDiedError, ForgivenError):
    """It ended while it was loading a model, to which that is held against."""


class DeviceWorker(Actor):
    """The engine worker of one device, and what is known of its models and requests.

    Args:
        device: torch's name of it, e.g. ``cuda:0``.
        threads: CPU threads of the worker at most; 0: as many as this process may have at a time.
        memory: bytes of the device that its models may have together; ``None`` for what is free.
        recovery: seconds that a request waits for a new process to serve its model.
        load_seconds: how long a load may read nothing before its process is ended.
    """

    def __init__(
        self,
        device: str,
        *,
        threads: int = 0,
        memory: int | None = None,
        recovery: float = RECOVERY_SECONDS,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.name = f"device-worker:{device}"
        self.device = device
        self._threads = threads
        self._memory = memory
        self._recovery = recovery
        self._load_seconds = load_seconds
        self._link: EngineLink | None = None
        self._models: dict[str, HeldModel] = {}
        self._unloading: dict[str, trio.Event] = {}
        self._requests = Requests(device, self._send)
        self._given_up: str | None = None

    @property
    def given_up(self) -> bool:
        """Whether this worker will never run again."""
        return self._given_up is not None

    @property
    def mailbox_depth(self) -> int:
        """Frames not yet written to the process."""
        return self._link.depth if self._link else 0

    @property
    def pid(self) -> int | None:
        """The worker process, if there is one."""
        return self._link.pid if self._link else None

    def reports(self) -> tuple[ModelReport, ...]:
        """Every model this worker holds or is to hold."""
        return tuple(model.report for model in self._models.values())

    def holds(self, model: str) -> bool:
        """Whether the model is this worker's."""
        return model in self._models

    async def load(self, model: str, path: str, quant: Quant | None = None) -> None:
        """Load a model and wait until it serves; joins a load under way, retries a failed one.

        Raises:
            ApiError: ``upstream_error`` with the worker's reason, at once if it was such that nobody may try again yet;
                503 if the model was unloaded meanwhile.
        """
        while (leaving := self._unloading.get(model)) is not None:
            await leaving.wait()  # what the worker still says of the model is about the one that leaves
        entry = self._entry(model, path, quant)
        await entry.settled.wait()
        if entry.report.status == "failed":
            raise errors.upstream_error(f"'{model}' does not load: {entry.report.error}")
        if entry.report.status == "unloaded":
            raise errors.unavailable(f"The model '{model}' was unloaded while it was loading.", 2)

    def _entry(self, model: str, path: str, quant: Quant | None) -> HeldModel:
        if self._given_up is not None:
            raise errors.upstream_error(f"'{model}' does not load on {self.device}: {self._given_up}")
        entry, load = self._models.get(model), Load(model, path, self._memory, quant)
        if entry is not None and (seconds := entry.refused_seconds(load)):
            error = f"'{model}' does not load: {entry.report.error}. It may be tried again in {seconds} s."
            raise errors.upstream_error(error)
        if entry is None or entry.report.status == "failed":
            deaths = 0 if entry is None or entry.load != load else entry.deaths
            entry = self._models[model] = HeldModel(load, ModelReport(model, "loading", self.device), deaths)
            self._send(load)
        return entry

    async def unload(self, model: str) -> None:
        """Forget a model and wait until its memory is free. Its requests, and who waits for it, get an error."""
        self._models.pop(model).settle(ModelReport(model, "unloaded", self.device))
        self._requests.drop(model, f"The model '{model}' was unloaded.")
        if self._link is not None:
            done = self._unloading.setdefault(model, trio.Event())
            self._send(Unload(model))
            await done.wait()

    def submit(self, model: str, prompt_ids: list[int], sampling: SamplingParams, key: str) -> LiveGeneration:
        """Start a generation. The caller closes it.

        Raises:
            ApiError: 503 unless the model is loaded, 429 when too many requests are live.
        """
        report = self._models[model].report
        if report.status != "loaded":
            raise errors.unavailable(_not_loaded(report), 2)
        if self._requests.choices + sampling.n > MAX_LIVE_REQUESTS:
            raise errors.rate_limited(f"{MAX_LIVE_REQUESTS} requests are already in flight on {self.device}.", 1)
        return self._requests.submit(model, prompt_ids, sampling, key)

    @property
    def busy(self) -> bool:
        """Whether it has requests, or models under way."""
        return self._requests.choices > 0 or any(report.status == "loading" for report in self.reports())

    def wind_up(self) -> None:
        """Let go of all that its process does, which is about to be stopped; what it holds is for the next one."""
        self._given_up = None
        for model in self._models.values():
            model.forgive()
        self._let_go()
        self._requests.lose(f"The engine worker of {self.device} is being restarted.")

    async def wait_settled(self) -> None:
        """Wait until each model serves, has failed, or is not wanted any more."""
        for model in list(self._models.values()):
            await model.settled.wait()

    def give_up(self, error: str) -> None:
        """The supervisor will not run this actor again: nothing here will ever load, and no request go on."""
        self._given_up = error
        self._requests.lose(f"The engine worker of {self.device} does not come back: {error}.")
        for model in self._due():
            model.fail(error)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run one worker process until it ends.

        Raises:
            WorkerDiedError: it ended; the supervisor starts the next one. If it was loading a model then, that is held
                against the model, so this happens but twice for each.
        """
        link = await self._open()
        vitals = Vitals(trio.current_time(), self._load_seconds)
        try:
            self._link = link
            for model in self._due():
                self._send(model.load)
            await self._serve(link, vitals, task_status)
        finally:
            self._link = None
            exit_ = await _close(link)
            ended = vitals.verdict or exit_
            was_loading = self._bury(vitals, ended)
        died = LoadKilledError if was_loading else WorkerDiedError
        raise died(f"the engine worker of {self.device} is gone: {ended}")

    async def _open(self) -> EngineLink:
        """Start the process."""
        return await EngineLink.open(self.device, self._threads or hosts.usable_threads())

    def _due(self) -> list[HeldModel]:
        """Models for a process to load; what one has died of before comes last."""
        wanted = (model for model in self._models.values() if not model.is_condemned)
        return sorted(wanted, key=lambda model: model.deaths)

    def _bury(self, vitals: Vitals, ended: str) -> bool:
        """Keep what is for the next process; whether the end is held against a model.

        There is no next one for the requests if this one was stopped.
        """
        stopped = trio.current_effective_deadline() == -math.inf
        loading = None if stopped or vitals.loading is None else self._models.get(vitals.loading)
        if loading is not None and (error := loading.blame(ended, hangs=vitals.load_hangs)) is not None:
            self._lose_model(loading.load.model, error)
        self._let_go()
        if stopped:
            self._requests.lose(f"The engine worker of {self.device} was stopped.")
        else:
            until = trio.current_time() + self._recovery
            self._requests.suspend(ended, until, blameless=loading is not None)
        return loading is not None

    async def _serve(self, link: EngineLink, vitals: Vitals, task_status: trio.TaskStatus[None]) -> None:
        """Carry frames until there are no more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.write_for_ever)
            nursery.start_soon(_watch, link, vitals)
            try:
                await self._read(link, vitals, task_status)
            except protocol.ProtocolError as error:
                vitals.verdict = str(error)
            nursery.cancel_scope.cancel()

    async def _read(self, link: EngineLink, vitals: Vitals, task_status: trio.TaskStatus[None]) -> None:
        while frames := await link.read():
            vitals.heard = trio.current_time()
            for frame in frames:
                if isinstance(frame, Hello):
                    vitals.greet(frame)
                    if vitals.verdict is not None:
                        return
                    task_status.started()
                else:
                    self._take(frame, vitals)

    def _take(self, frame: protocol.Frame, vitals: Vitals) -> None:
        match frame:
            case Tokens():
                self._requests.extend(frame)
            case Began():
                self._requests.begin(frame)
            case Finished():
                self._requests.finish(frame)
            case Failed():
                self._requests.fail(frame)
            case Heartbeat():
                vitals.beat(frame)
                self._note_load(frame)
            case Dying():
                vitals.verdict = f"it ended itself: {frame.error}"
            case _:
                self._take_of_model(frame, vitals)

    def _take_of_model(self, frame: protocol.Frame, vitals: Vitals) -> None:
        match frame:
            case Loading():
                vitals.loading = frame.model
                self._note_progress(frame)
            case Loaded():
                vitals.loading = None
                self._serve_model(frame)
            case LoadFailed():
                vitals.loading = None
                self._lose_model(frame.model, frame.error)
            case Unloaded():
                self._unloading.pop(frame.model, trio.Event()).set()
            case _:
                raise protocol.ProtocolError(f"a worker does not send {type(frame).__name__}")

    def _serve_model(self, frame: Loaded) -> None:
        _log.info("model.loaded", model=frame.model, device=self.device, seconds=round(frame.seconds, 2))
        # absent: unloaded while it was loading
        if (entry := self._models.get(frame.model)) is not None:
            entry.serve(frame)
            self._requests.resume(frame.model)

    def _lose_model(self, model: str, error: str) -> None:
        _log.error("model.failed", model=model, device=self.device, error=error)
        if (entry := self._models.get(model)) is not None:
            entry.fail(error)
            self._requests.drop(model, f"The model '{model}' does not load again: {error}.")

    def _note_progress(self, frame: Loading) -> None:
        if (entry := self._models.get(frame.model)) is not None:
            entry.advance(frame)

    def _note_load(self, frame: Heartbeat) -> None:
        for load in frame.models:
            if (entry := self._models.get(load.model)) is not None:
                entry.note(load)

    def _let_go(self) -> None:
        """The process is gone, or as good as that, and with it every model in memory."""
        for model in self._models.values():
            model.lose()
        for unloading in self._unloading.values():
            unloading.set()
        self._unloading.clear()

    def _send(self, frame: Command) -> None:
        """Queue a frame. Without a process there is nobody to tell: the next one gets its models from the list."""
        if self._link is not None:
            self._link.send(frame)


async def _close(link: EngineLink) -> str:
    """End the process for certain, and say how it ended."""
    try:
        with trio.CancelScope(shield=True):  # bounded by LINGER_SECONDS and STOP_SECONDS
            ended = str(await link.close(STOP_SECONDS))
    except ProcessStuckError as error:
        ended = str(error)
    return ended


async def _watch(link: EngineLink, vitals: Vitals) -> None:
    """End a process that is silent or wedged; its reader then sees the end of the socket."""
    while vitals.judge(trio.current_time()) is None:  # noqa: ASYNC110 - silence is the absence of an event
        await trio.sleep(1)
    with suppress(ProcessStuckError):  # closing the link meets it again, and tells
        await link.kill()


def _not_loaded(report: ModelReport) -> str:
    reason = f": {report.error}" if report.error else ""
    return f"The model '{report.id}' is {report.status}{reason}."
