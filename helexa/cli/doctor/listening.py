"""Gathers whether the addresses of a topology can be listened on, and who does already."""

import errno
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from config import Address, Topology
from helexa.cli.doctor.facts import Port
from helexa.neuron.guard import allowed_listen
from helexa.web.server import PortInUseError, bind

_ASK_SECONDS = 2.0
_ERROR_KEYS = {"message", "type", "code", "param"}


def listeners(topology: Topology, here: str, environment: Mapping[str, str]) -> Iterator[tuple[str, Address]]:
    """The topology's key and the address of each listener on a host; a neuron's as it is without a secret."""
    if topology.cortex_on(here):
        yield "cortex.listen", topology.cortex.listen
        yield "cortex.metrics_listen", topology.cortex.metrics_listen
    secret = environment.get(topology.cortex.secret_env) or None
    for neuron in topology.neurons_on(here):
        yield f"neurons.{neuron.name}.listen", allowed_listen(neuron.listen, secret)


def look(asked_by: str, address: Address) -> Port:
    """Try to listen, for a moment; where that cannot be, see who does."""
    try:
        bind(address.host, address.port, asked_by).close()
    except PortInUseError as error:
        cause = error.__cause__
        if getattr(cause, "errno", None) == errno.EADDRINUSE:
            return _held(asked_by, address)
        return Port(asked_by, str(address), "wrong", getattr(cause, "strerror", None) or str(cause))
    return Port(asked_by, str(address))


def _held(asked_by: str, address: Address) -> Port:
    pid = _holder(address)
    if pid is None:  # another user's, of whom the kernel does not tell
        return Port(asked_by, str(address), "ours" if _answers_as_helexa(address) else "taken")
    command = _command(pid)
    holder = f"{pid} ({' '.join(command[:6])})" if command else str(pid)
    return Port(asked_by, str(address), "ours" if is_helexa(command) else "taken", holder=holder)


def is_helexa(command: Sequence[str]) -> bool:
    """Whether a command line runs helexa: by its own name, or as a module of Python's."""
    return any(Path(word).name == "helexa" for word in command[:5])


def _holder(address: Address) -> int | None:
    """The process that listens there; ``None`` where that is not told."""
    found = []
    with suppress(psutil.Error, OSError):
        found = psutil.net_connections(kind="tcp")
    for each in found:
        if each.status != psutil.CONN_LISTEN or not each.laddr or each.pid is None:
            continue
        theirs = Address(each.laddr.ip.removeprefix("::ffff:"), each.laddr.port)
        if theirs.port == address.port and _may_be(theirs, address):
            return int(each.pid)
    return None


def _may_be(theirs: Address, wanted: Address) -> bool:
    """Whether who listens there is in the way; of an address by name, which nobody resolves here, it is assumed."""
    by_name = re.search(r"[^0-9a-fA-F:.]", wanted.canonical_host) is not None
    return by_name or theirs.is_wildcard or theirs.clashes_with(wanted)


def _command(pid: int) -> list[str]:
    with suppress(psutil.Error):
        return [os.fspath(word) for word in psutil.Process(pid).cmdline()]
    return []


def _answers_as_helexa(address: Address) -> bool:
    import httpx

    anyone = ssl.create_default_context()  # nothing is sent: it may show a certificate that nobody vouches for
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    for scheme in ("http", "https"):
        with suppress(httpx.HTTPError):
            url = f"{scheme}://{address.connectable}/health"
            if speaks_like_helexa(httpx.get(url, timeout=_ASK_SECONDS, verify=anyone, trust_env=False).text):
                return True
    return False


def speaks_like_helexa(body: str) -> bool:
    """Whether a body is what one of helexa's servers answers for ``/health``, be it that it wants to know who asks."""
    try:
        found = json.loads(body)
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    error = found.get("error")
    return found.get("status") == "ok" or (isinstance(error, dict) and error.keys() == _ERROR_KEYS)
