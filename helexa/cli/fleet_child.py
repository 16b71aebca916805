"""``helexa up --console``: a fleet as a child of the console that is opened on it.

The console runs under asyncio and the fleet under trio, so each has a process of its own; the console keeps the
terminal, and the fleet's log goes to a file.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from config import DEMO, Bench, Topology, TopologyError, load
from helexa import lifeline
from helexa.cli.console import Wanted, no_terminal, show
from helexa.cli.output import DONE, FAILED, WRONG, fail, say

_LOOK_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 10.0
"""`helexa up` ends by force after 9 s."""
_LEAVING: Final = "Leaving this console stops the fleet that was started with it."
_LOGS: Final = Path("~/.local/state/helexa")


def watch_parent() -> None:
    """Stop like after Ctrl-C once stdin ends: whoever held its other end is gone."""
    lifeline.watch(lambda: os.kill(os.getpid(), signal.SIGTERM), grace=_STOP_SECONDS)


def up_with_console(file: Path | None, host: str | None) -> int:
    """Start this host's part of a fleet, and open the console on it; the fleet's end follows the console's.

    Args:
        file: its topology; ``None``: the demo fleet's.
        host: which host of the topology this is; ``None``: as the machine is called.
    """
    try:
        topology = load(file or DEMO)
    except TopologyError as error:
        say(str(error))
        return fail("nothing was started.", WRONG)
    if (problem := _problem(topology, host or socket.gethostname())) is not None:
        return fail(problem, WRONG)
    return _run(topology, _command(file, host))


def _problem(topology: Topology, host: str) -> str | None:
    listen = topology.cortex.listen.connectable
    if not topology.cortex_on(host):
        return (
            f"the console asks the gateway, which is on host '{topology.cortex.host}' and not on '{host}'; "
            "run 'helexa up' here, and 'helexa console --url' beside it."
        )
    if _answers(listen.host, listen.port):
        return f"something listens on {listen} already; 'helexa console --url' opens the console on a fleet that runs."
    return no_terminal()


def _command(file: Path | None, host: str | None) -> list[str]:
    named = [] if file is None else [str(file)]
    return [sys.executable, "-m", "helexa", "up", *named, *([] if host is None else ["--host", host]), "--lifeline"]


@frozen
class _Child:
    """A fleet, and where it writes what it says."""

    process: subprocess.Popen[bytes]
    log: Path


def _run(topology: Topology, command: list[str]) -> int:
    try:
        child = _start(command, topology.cortex.listen.port)
    except OSError as error:
        return fail(f"the fleet has nowhere to write its log to: {error}.")
    say(f"starting the fleet; what it says is in {child.log}")
    try:
        if _wait_until_it_serves(child, topology):
            return _stop(child, show(_wanted(topology), _LEAVING))
        return _told(child)
    except KeyboardInterrupt:
        return _stop(child, FAILED)


def _start(command: list[str], port: int) -> _Child:
    log = _LOGS.expanduser() / f"up-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        process = subprocess.Popen(  # noqa: S603 - this very program
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True
        )
    return _Child(process, log)


def _wait_until_it_serves(child: _Child, topology: Topology) -> bool:
    """Whether it does; it may take as long as it likes, and Ctrl-C ends the wait."""
    listen = topology.cortex.listen.connectable
    while child.process.poll() is None:
        if _answers(listen.host, listen.port):
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def _wanted(topology: Topology) -> Wanted:
    scheme = "http" if topology.cortex.tls is None else "https"
    gateway, bench = topology.cortex.listen.connectable, (topology.bench or Bench()).listen.connectable
    return Wanted(f"{scheme}://{gateway}", _key(topology), f"{scheme}://{bench}")


def _key(topology: Topology) -> str | None:
    """The operator's, or one of the file that may do everything."""
    declared = (key.key_env for key in topology.entitlements.keys if "fleet:admin" in key.scopes and key.key_env)
    return next(filter(None, map(os.environ.get, ("HELEXA_API_KEY", *declared))), None)


def _stop(child: _Child, code: int) -> int:
    """Ask it to end, and wait; Ctrl-C asks once more, which it understands as at once."""
    if child.process.poll() is not None:
        return _told(child)
    say("stopping the fleet")
    while True:
        with suppress(KeyboardInterrupt):
            child.process.send_signal(signal.SIGINT)
            return _ended(child, code)


def _ended(child: _Child, code: int) -> int:
    try:
        ended = child.process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.process.kill()
        return fail(f"the fleet did not end in time and was killed; what it said is in {child.log}.")
    say("the fleet has ended")
    return code if ended == DONE else fail(f"it ended with code {ended}; what it said is in {child.log}.")


def _told(child: _Child) -> int:
    """What it said before it ended by itself."""
    last = child.log.read_text(errors="replace").splitlines()[-5:]
    for line in last:
        say(f"  {line}")
    return fail(f"the fleet has ended by itself with code {child.process.returncode}; its log is {child.log}.")
