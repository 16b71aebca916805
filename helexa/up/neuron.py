"""One neuron's process: device workers inside, HTTP outside."""

import os
from collections.abc import Callable

import structlog
import trio

from actors.device_pool import DevicePool
from actors.rank_pool import RankPool
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
    _check_interconnect(neuron)
    host = await trio.to_thread.run_sync(discover, abandon_on_cancel=True)  # measures, and asks a driver that may hang
    build_version()
    pool = _pool(topology, neuron, host)
    ranks = RankPool(_devices(neuron, host), neuron.interconnect, topology.actors.tp_leader.restart)
    source_of, quant_of = _catalogue(topology)
    service = Service(pool, source_of, neuron.registry, quant_of)
    drain = Drain()
    stop = trio.Event()
    async with trio.open_nursery() as process:
        await process.start(watch_signals, stop, process.cancel_scope)
        async with trio.open_nursery() as engines:
            await engines.start(pool.run)
            await engines.start(ranks.run)
            engines.start_soon(service.preload, neuron.preload)
            async with trio.open_nursery() as serving:
                await serving.start(serve, make_app(service, host, drain, secret, ranks), sock, drain, certificate)
                _say_ready(ready_fd)
                await stop.wait()
                drain.stopping.set()
            engines.cancel_scope.cancel()
        process.cancel_scope.cancel()


def _check_interconnect(neuron: Neuron) -> None:
    """Find out now, rather than at the first load that needs it, that ranks of other hosts could not come here.

    Raises:
        PortInUseError: the address is not this host's, or somebody has the port.
    """
    if (address := neuron.interconnect) is not None:
        bind(address.host, address.port, f"neurons.{neuron.name}.interconnect").close()


def _pool(topology: Topology, neuron: Neuron, host: Host) -> DevicePool:
    settings = topology.actors.device_worker
    return DevicePool(
        _devices(neuron, host),
        settings.restart,
        neuron.memory,
        settings.recovery,
        ranks_of=_ranks(topology),
        group_policy=topology.actors.tp_leader.restart,
        load_seconds=settings.load_stall,
    )


def _devices(neuron: Neuron, host: Host) -> list[str]:
    return list(neuron.devices or [device.name for device in host.discovery.devices])


def _ranks(topology: Topology) -> Callable[[str], int]:
    """How many devices are to share a model that is loaded without any being named."""

    def ranks_of(model: str) -> int:
        return (entry.tensor_parallel or 1) if (entry := topology.model(model)) else 1

    return ranks_of


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
