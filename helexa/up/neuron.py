"""One neuron's process: device workers inside, HTTP outside."""

import os
from collections.abc import Callable

import structlog
import trio

from actors.device_pool import DevicePool
from config import Neuron, Quant, Topology
from helexa.neuron.app import make_app
from helexa.neuron.build_info import build_version
from helexa.neuron.discovery import Host, discover
from helexa.neuron.guard import allowed_listen
from helexa.neuron.service import Service
from helexa.up.stop import watch_signals
from helexa.web.server import Drain, bind, serve
from helexa.web.tls import server_context

_log = structlog.get_logger()


async def run_neuron(topology: Topology, neuron: Neuron, ready_fd: int | None) -> None:
    """Serve until a signal comes.

    The nesting is the order of the stop: requests first, then the engines they use.

    Args:
        topology: the whole fleet's file.
        neuron: which entry of it this process is.
        ready_fd: where to say that it serves; closed afterwards.

    Raises:
        CertificateError: nothing has been started.
        PortInUseError: likewise.
    """
    secret = os.environ.get(topology.cortex.secret_env) or None
    listen = allowed_listen(neuron.listen, secret)
    if listen != neuron.listen:
        _log.warning("neuron.loopback_only", wanted=str(neuron.listen), reason=f"${topology.cortex.secret_env} not set")
    certificate = None if neuron.tls is None else server_context(neuron.tls, f"neurons.{neuron.name}.tls")
    sock = bind(listen.host, listen.port, f"neurons.{neuron.name}.listen")
    host = await trio.to_thread.run_sync(discover, abandon_on_cancel=True)  # measures, and asks a driver that may hang
    build_version()
    settings = topology.actors.device_worker
    pool = DevicePool(_devices(neuron, host), settings.restart, neuron.memory, settings.recovery)
    source_of, quant_of = _catalogue(topology)
    service = Service(pool, source_of, neuron.registry, quant_of)
    drain = Drain()
    stop = trio.Event()
    async with trio.open_nursery() as process:
        await process.start(watch_signals, stop, process.cancel_scope)
        async with trio.open_nursery() as engines:
            await engines.start(pool.run)
            engines.start_soon(service.preload, neuron.preload)
            async with trio.open_nursery() as serving:
                await serving.start(serve, make_app(service, host, drain, secret), sock, drain, certificate)
                _say_ready(ready_fd)
                await stop.wait()
                drain.stopping.set()
            engines.cancel_scope.cancel()
        process.cancel_scope.cancel()


def _devices(neuron: Neuron, host: Host) -> list[str]:
    return list(neuron.devices or [device.name for device in host.discovery.devices])


def _catalogue(topology: Topology) -> tuple[Callable[[str], str | None], Callable[[str], Quant | None]]:
    """A model's source, and what its weights are reduced to."""

    def source_of(model: str) -> str | None:
        return entry.source if (entry := topology.model(model)) else None

    def quant_of(model: str) -> Quant | None:
        return entry.quant if (entry := topology.model(model)) else None

    return source_of, quant_of


def _say_ready(fd: int | None) -> None:
    if fd is not None:
        os.write(fd, b"\n")
        os.close(fd)
