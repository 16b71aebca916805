"""Gathers the facts of a host: every effect of the doctor is here and beside this file, none in what judges."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import evolve

from config import Topology, TopologyError, load
from helexa import hostmemory
from helexa.cli.doctor import installed, listening, storage
from helexa.cli.doctor.facts import Facts, Interpreter
from helexa.neuron.discovery import discover
from helexa.web.tls import CertificateError, client_context, server_context


def gather(file: Path, here: str, environment: Mapping[str, str] = os.environ) -> Facts:
    """Look at everything. Takes some seconds, most of them for torch; changes nothing.

    Args:
        file: the topology.
        here: which host of it this is.
        environment: the variables that a fleet would be started with.
    """
    found = _host(environment)
    try:
        topology = load(file, env=environment)
    except TopologyError as error:
        return evolve(found, file=str(file), here=here, problems=tuple(map(str, error.problems)))
    return _with_topology(evolve(found, file=str(file), here=here, topology=topology), topology)


def _host(environment: Mapping[str, str]) -> Facts:
    host = discover(environment=environment)
    return Facts(
        interpreter=Interpreter(sys.version_info[:3], sys.maxsize > 2**32, os.name),
        packages=installed.unfit_packages(),
        torch=installed.ask_torch(),
        host=host,
        health=host.health(),
        memory_available=hostmemory.read().available,
        cache=storage.model_cache(environment),
        open_files=_open_files(),
        environment=environment,
    )


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows, of which the check of Python tells
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _with_topology(facts: Facts, topology: Topology) -> Facts:
    wanted = listening.listeners(topology, facts.here, facts.environment)
    return evolve(
        facts,
        ports=tuple(listening.look(asked_by, address) for asked_by, address in wanted),
        database=storage.database_trouble(topology.cortex.database) if facts.is_gateway else None,
        certificates=tuple(_certificate_troubles(facts, topology)),
    )


def _certificate_troubles(facts: Facts, topology: Topology) -> Iterator[str]:
    servers = [(f"neurons.{neuron.name}.tls", neuron.tls) for neuron in facts.neurons]
    if facts.is_gateway:
        servers.append(("cortex.tls", topology.cortex.tls))
        try:
            client_context(topology.cortex.ca)
        except CertificateError as error:
            yield str(error)
    for asked_by, files in servers:
        try:
            if files is not None:
                server_context(files, asked_by)
        except CertificateError as error:
            yield str(error)
