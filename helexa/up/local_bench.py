"""The benchmark loop's process of this host, kept to what the topology says while it changes."""

import os
from pathlib import Path
from typing import Any

from attrs import define

from actors.bench_process import NAME, BenchProcess
from actors.supervisor import Supervisor
from config import RestartPolicy, Topology
from helexa.up.locals import FILE


@define(eq=False)
class LocalBench:
    """Starts and stops it, and starts it anew for an edit that concerns it: what it measures breaks off, no more.

    Attributes:
        directory: private to this process; holds the copy of the topology that children read.
        supervisor: runs it.
    """

    directory: Path
    supervisor: Supervisor
    _running: tuple[Any, ...] | None = None

    async def follow(self, topology: Topology) -> None:
        """Have it run as a topology says, whose copy is in the directory already."""
        wanted = concerning(topology)
        if wanted == self._running:
            return
        if self._running is not None:
            await self.supervisor.stop(NAME)
        if wanted is not None:
            # One that dies again and again stays down: nobody's requests depend on it.
            process = BenchProcess(str(self.directory / FILE), os.environ)
            self.supervisor.spawn(process, RestartPolicy(), escalate=False)
        self._running = wanted


def concerning(topology: Topology) -> tuple[Any, ...] | None:
    """What the loop's process has from a topology; ``None``: there is to be no loop."""
    if topology.bench is None:
        return None
    cortex = topology.cortex
    return (
        topology.bench,
        tuple((neuron.name, neuron.endpoint) for neuron in topology.neurons),
        tuple((model.id, model.quant) for model in topology.models),
        (topology.auth_required, topology.entitlements),
        (cortex.database, cortex.secret_env, cortex.tls, cortex.ca),
    )
