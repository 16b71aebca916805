"""The engine worker's process: ``python -m helexa.engine.worker --device cpu --fd 3``.

Three threads. The main one steps the models; a reader turns the socket into a queue; a heart beats beside both, so
that the neuron can tell a long step from a dead process. The socket is the worker's world: when it ends, so does the
process.
"""

import argparse
import os
import queue
import signal
import socket
import threading
from time import monotonic
from typing import NoReturn

import structlog
import torch

from helexa import lifeline, logs
from helexa.engine import environment, libraries, mishaps, protocol, threads
from helexa.engine.core import Engine
from helexa.engine.memory import MIB
from helexa.engine.protocol import (
    Abort,
    Began,
    Command,
    Dying,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Report,
    Submit,
    Unload,
)
from helexa.engine.scheduling.pace import Pace
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.threads import ThreadGovernor
from helexa.engine.weights.loading import LoadedModel, LoadError, load_model
from helexa.engine.weights.progress import LoadProgress

HEARTBEAT_SECONDS = 1.0
CHECK_SECONDS = 60.0
"""Least time between two looks at the books of the KV cache."""
BROKEN_DEVICE, FAULT = 75, 70
"""Exit codes, of sysexits.h: what another process may do better, and what is wrong with the program."""
_log = structlog.get_logger()


class Link:
    """The worker's end of the socket: a queue of commands in, frames out from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()

    def send(self, *reports: Report) -> None:
        """Write frames in one go; blocks while the neuron is slow to read."""
        if reports:
            data = b"".join(map(protocol.encode, reports))
            try:
                with self._sending:
                    self._socket.sendall(data)
            except OSError:
                os._exit(0)  # the neuron is gone, and with it every reader of what we compute

    def take(self, *, block: bool) -> list[Command]:
        """Every command that has come; with ``block``, wait for one or for ``wake``."""
        found = [self._commands.get()] if block else []
        while not self._commands.empty():
            found.append(self._commands.get())
        return [command for command in found if command is not None]

    def wake(self) -> None:
        """End the wait of ``take``; from any thread."""
        self._commands.put(None)

    def read_for_ever(self) -> NoReturn:
        """Fill the queue; end the process when the neuron is gone or talks nonsense."""
        reader = protocol.FrameReader()
        try:
            while data := self._socket.recv(1 << 16):
                for frame in reader.push(data):
                    self._commands.put(frame)  # type: ignore[arg-type]  # a neuron sends commands only
        except OSError:
            pass  # a neuron that closes over unread reports resets the socket: an end like any other
        except protocol.ProtocolError as error:
            _log.error("worker.link_broken", error=str(error))
        os._exit(0)  # not sys.exit: that would end this thread alone, and the main one may be deep in a step


class Worker:
    """Holds the models of one device and steps them in turn."""

    def __init__(self, link: Link, device: str) -> None:
        self._link = link
        self._device = device
        self._budget = Budget.for_device(device.partition(":")[0])
        self._threads = ThreadGovernor(torch.get_num_threads(), torch.set_num_threads)
        self._engines: dict[str, Engine] = {}
        self._step = 0
        self._stepping: Engine | None = None
        self._loading: LoadProgress | None = None
        self._busy_since: float | None = None
        self._checked = monotonic()

    def run(self) -> NoReturn:
        """Serve commands for ever; end the process by whatever goes wrong in that, and say so."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - told, logged, and the end
            self._die(error)

    def _die(self, error: Exception) -> NoReturn:
        """End the process by an error, at once: on a broken device even the way out of Python may hang."""
        broken = mishaps.is_broken(error)
        reason = mishaps.describe(error)
        self._link.send(Dying(f"the device is broken ({reason})" if broken else reason))
        _log.error("worker.dies", device=self._device, device_broken=broken, exc_info=error)
        os._exit(BROKEN_DEVICE if broken else FAULT)

    def _run(self) -> NoReturn:
        self._link.send(Hello(protocol.VERSION, os.getpid(), self._device, torch.__version__))
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
        while True:
            for command in self._link.take(block=self._is_idle()):
                self._handle(command)
            self._step_all()

    def _is_idle(self) -> bool:
        """Nothing to step. The moment when nobody waits is used to look whether a block was lost, now and then."""
        if any(engine.has_work for engine in self._engines.values()):
            return False
        if monotonic() - self._checked > CHECK_SECONDS:
            for engine in self._engines.values():
                engine.check_integrity()
            self._checked = monotonic()
        return True

    def _handle(self, command: Command) -> None:
        match command:
            case Load():
                self._load(command)
            case Unload(model):
                self._unload(model)
            case Submit():
                self._submit(command)
            case Abort(request, index):
                for engine in self._engines.values():
                    self._link.send(*engine.abort(request, index))

    def _load(self, load: Load) -> None:
        self._loading = LoadProgress(load.model, self._link.send)
        self._forget(load.model)  # a neuron unloads first; if one does not, its requests still have their ends
        report = self._try(load)
        if isinstance(report, LoadFailed):
            mishaps.collect()  # not where the error is caught: as long as it is there, so is what was being loaded
        self._loading = None  # first: a load that is told to have ended is not in anybody's way any more
        self._link.send(report)

    def _try(self, load: Load) -> Loaded | LoadFailed:
        try:
            model = self._read(load, self._left_of(load.memory))
        except LoadError as error:
            if (cause := error.__cause__) is not None and mishaps.is_broken(cause):
                raise cause from error
            return LoadFailed(load.model, str(error))
        seconds = {name.replace(" ", "_"): round(each, 3) for name, each in model.parts.items()}
        _log.info("worker.loaded", model=load.model, seconds=round(model.seconds, 3), **seconds)
        self._engines[load.model] = Engine(model, self._budget, wake=self._link.wake, announce=self._announce)
        capacity = min(self._budget.running, model.blocks)  # each takes a block at least
        return Loaded(load.model, model.memory_mb, model.context_length, model.seconds, model.kv_mb, capacity)

    def _read(self, load: Load, left: int | None) -> LoadedModel:
        """Load a model; ``left`` are the bytes that it may have."""
        return load_model(load.path, self._device, self._budget.running, left, load.quant, told=self._tell)

    def _tell(self, done: int, total: int) -> None:
        """So many bytes of the model under way have been read, of so many. From any thread."""
        if (loading := self._loading) is not None:
            loading.told(done, total)

    def _announce(self, requests: list[str]) -> None:
        self._link.send(Began(requests))

    def _left_of(self, memory: int | None) -> int | None:
        """Bytes that no model of this worker has, of those that all may have together."""
        models = [engine.model for engine in self._engines.values()]
        used = sum(model.memory_mb + model.kv_mb for model in models) * MIB
        return None if memory is None else max(0, memory - used)

    def _unload(self, model: str) -> None:
        self._forget(model)
        mishaps.collect()
        self._link.send(protocol.Unloaded(model))

    def _forget(self, model: str) -> None:
        if (engine := self._engines.pop(model, None)) is not None:
            self._link.send(*engine.abort_all())
            engine.close()

    def _submit(self, submit: Submit) -> None:
        if (engine := self._engines.get(submit.model)) is None:
            self._link.send(protocol.Failed(submit.request, "service_unavailable", f"{submit.model} is not loaded"))
            return
        self._link.send(*engine.submit(submit))

    def _step_all(self) -> None:
        for engine in self._engines.values():
            if engine.has_work:
                self._step += 1
                self._stepping, self._busy_since = engine, monotonic()
                with self._threads.step():
                    deltas, ends = engine.step()
                self._busy_since = self._stepping = None
                self._link.send(*([protocol.Tokens(self._step, deltas)] if deltas else ()), *ends)

    def _beat(self) -> NoReturn:
        pause = threading.Event()
        while True:
            self._link.send(self._heartbeat())
            pause.wait(HEARTBEAT_SECONDS)

    def _heartbeat(self) -> Heartbeat:
        """How it goes. From another thread than all the rest: what it looks at changes meanwhile."""
        since, loading, engine = self._busy_since, self._loading, self._stepping
        models = [each.figures(model) for model, each in list(self._engines.items())]
        if loading is not None:
            return Heartbeat(self._step, loading.stalled(), loading=True, models=models)
        stalled = 0.0 if since is None else monotonic() - since
        pace = Pace() if engine is None else engine.pace
        return Heartbeat(
            self._step,
            stalled,
            loading=False,
            models=models,
            tokens=pace.tokens,
            longest=pace.longest,
            largest=pace.largest,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helexa.engine.worker", description="Run models on one device.")
    parser.add_argument("--device", required=True, help="torch device, e.g. cpu or cuda:0")
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the neuron")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads at most; 0 leaves the choice to torch")
    return parser.parse_args()


def main() -> None:
    """Run until the neuron's end of the socket closes."""
    arguments = _arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the root's to handle; it reaches us as a closed socket
    lifeline.watch(lambda: None, grace=1.0)
    logs.configure()
    environment.prepare()
    libraries.bring_in()
    threads.limit(arguments.threads)
    link = Link(socket.socket(fileno=arguments.fd))
    threading.Thread(target=link.read_for_ever, daemon=True, name="reader").start()
    Worker(link, arguments.device).run()


if __name__ == "__main__":
    main()
