"""Fleets whose processes are forked with their imports behind them: ten seconds of a processor for each of them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fleet_forks
import fork_server
from forks import ForkServer

from actors import python

_PADDING = "-" * 4000
_PATIENCE = 60.0


@contextmanager
def serving() -> Iterator[ForkServer]:
    """A server of fleets."""
    server = _start()
    try:
        yield server
    finally:
        server.stop()


def _start() -> ForkServer:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**python.environment(), "OPENBLAS_NUM_THREADS": "1"}  # it begins threads when it is imported
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    with theirs:
        command = [sys.executable, "-P", fleet_forks.__file__, str(theirs.fileno()), _PADDING]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C is ours
        )
    ours.settimeout(_PATIENCE)
    assert ours.recv(32) == fork_server.READY
    return ForkServer(process, ours)
