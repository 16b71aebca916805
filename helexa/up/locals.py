"""The neurons' processes of this host, kept to what the topology says while it changes.

They read a copy of the topology in force, not the operator's file: one that crashes in the middle of a bad edit must
come up again as it was.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from attrs import define, field

from actors.neuron_process import NeuronProcess
from actors.supervisor import Supervisor
from config import Neuron, RestartPolicy, Topology, save

FILE = "topology.toml"
_AT_START = ("listen", "tls", "devices", "memory", "host")
"""What a neuron cannot change while it runs. ``preload`` matters at its next start, and is no reason for one."""


@define(eq=False)
class LocalNeurons:
    """Starts and stops them.

    Attributes:
        directory: private to this process; holds their copy of the topology.
        supervisor: runs them.
        on_change: told a neuron's name whenever its process has come or gone.
        idle: waits until nothing is in flight at a neuron, or for as long as that may take.
    """

    directory: Path
    supervisor: Supervisor
    on_change: Callable[[str], None]
    idle: Callable[[str], Awaitable[None]]
    _running: dict[str, Neuron] = field(factory=dict)

    def start(self, topology: Topology, neurons: tuple[Neuron, ...]) -> None:
        """Start this host's neurons, without waiting until they serve."""
        save(topology, self.directory / FILE)
        for neuron in neurons:
            self._spawn(neuron)

    def _spawn(self, neuron: Neuron) -> None:
        process = NeuronProcess(
            neuron.name, str(self.directory / FILE), os.environ, lambda: self.on_change(neuron.name)
        )
        # A neuron that dies again and again stays down; what other nodes serve goes on.
        self.supervisor.spawn(process, RestartPolicy(), escalate=False)
        self._running[neuron.name] = neuron

    def leaving(self, neurons: tuple[Neuron, ...]) -> tuple[str, ...]:
        """Which of those that run are not to run any more as they do, given what is to run."""
        wanted = {neuron.name: neuron for neuron in neurons}
        return tuple(name for name, now in self._running.items() if _differs(now, wanted.get(name)))

    async def stop(self, names: tuple[str, ...]) -> None:
        """End these, side by side, each once its requests have ended."""
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self._stop, name)

    async def _stop(self, name: str) -> None:
        await self.idle(name)
        await self.supervisor.stop(f"neuron:{name}")
        del self._running[name]

    def complete(self, topology: Topology, neurons: tuple[Neuron, ...]) -> None:
        """Start those that are to run and do not."""
        save(topology, self.directory / FILE)
        for neuron in neurons:
            if neuron.name not in self._running:
                self._spawn(neuron)
            self._running[neuron.name] = neuron


def _differs(now: Neuron, wanted: Neuron | None) -> bool:
    return wanted is None or any(getattr(now, key) != getattr(wanted, key) for key in _AT_START)
