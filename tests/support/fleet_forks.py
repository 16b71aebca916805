"""``python fleet_forks.py FD KIND PADDING`` becomes fleets by forking: root, neurons and workers with all imported.

A fork of the server becomes the parent of its own children as any process does: it forks them before it begins, and
they wait for their command lines. Whoever ends sooner, or starts more than it was expected to, starts them as ever.
"""

import array
import atexit
import gc
import importlib
import json
import os
import socket
import sys
import tempfile
import threading
import tomllib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import fork_server
from attrs import define

_TWICE = ("torch", "transformers", "helexa", "actors", "config")
"""Packages that an engine and all others see in different ways: where torch is, and where there is none."""
SPARES = "HELEXA_TEST_SPARES"
"""In a fleet's environment: how many processes of each kind may be killed, and have another one at hand."""
_SOCKET = 3
_IMPATIENT = str(Path(__file__).with_name("impatient.py"))
_ENGINE: dict[str, ModuleType] = {}


def bring_in() -> None:
    """Import what a fleet does: first as an engine, whose modules are put by, then as all others."""
    fork_server.engines()
    import forks  # noqa: F401 - imported to be there, and now: it brings torch with it

    _ENGINE.update(_take_out())
    del _ENGINE["helexa.engine.worker"]  # what is run must not be imported yet
    from helexa.text import forgo_torch

    forgo_torch()
    import typer.rich_utils  # noqa: F401 - imported to be there
    from transformers import AutoTokenizer  # noqa: F401 - likewise

    import helexa.cli.fleet_child
    import helexa.lifeline
    import helexa.up.bench
    import helexa.up.neuron  # noqa: F401 - likewise

    "host".encode("idna")
    fork_server.gateways()
    gc.freeze()


def _take_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in _TWICE]
    return {name: sys.modules.pop(name) for name in names}


def is_helexa(command: Sequence[str]) -> bool:
    """Whether a module of helexa's is to be run, or what is as good as its command line."""
    module = [each for each in command[1:4] if each not in {"-P", "-m"}]
    known = "-m" in command[1:3] and module[0].partition(".")[0] == "helexa"
    return command[0] == sys.executable and (known or module[:1] == [_IMPATIENT])


@define(eq=False)
class Children:
    """Forks of this process that wait for what they are to become, by their numbers; each hears of it by a socket."""

    waiting: list[tuple[int, int]]

    def are_wanted(self, command: Sequence[str]) -> bool:
        return bool(self.waiting) and is_helexa(command)

    def fork(self, job: dict[str, Any], fds: list[int]) -> int:
        """Have the next one become this; its number."""
        number, fd = self.waiting.pop(0)
        with socket.socket(fileno=fd) as sock:
            inherited = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sock.sendmsg([json.dumps(job).encode()], inherited)
        return number


def children_of(job: dict[str, Any]) -> int:
    """How many processes of helexa's it starts, as far as its command line says."""
    found = _started(job["arguments"])
    return found + int(job["environment"].get(SPARES, "0")) if found else 0


def _started(arguments: Sequence[str]) -> int:
    words = [each for each in arguments if each not in {"-P", "-m"}]
    try:
        topology = tomllib.loads(Path(words[2]).read_text())
    except (IndexError, OSError, ValueError):
        return 0
    neurons = topology.get("neurons", [])
    if words[:2] == ["helexa", "up"]:
        host = words[words.index("--host") + 1] if "--host" in words else None
        return sum(host in {None, each.get("host")} for each in neurons) + ("bench" in topology)
    if words[:2] == ["helexa", "neuron"]:
        return sum(len(each.get("devices", "1")) for each in neurons if each["name"] in words)
    return 0


def run(job: dict[str, Any]) -> None:
    """Be what it asks for, with children at hand."""
    waiting: list[tuple[int, int]] = []
    while len(waiting) < children_of(job):
        ours, theirs = (each.detach() for each in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        if (number := os.fork()) == 0:
            run(_job_from(theirs))
            return
        os.close(theirs)
        waiting.append((number, ours))
    from forks import forking

    children = Children(waiting)
    os.environ.clear()
    os.environ.update(job["environment"])
    tempfile.tempdir = None  # what was found in the server's environment
    _see_as("helexa.engine" in str(job["arguments"]))
    with forking(children, children.are_wanted):  # type: ignore[arg-type]  # it forks, as the server does
        _end_as(lambda: fork_server.become(job))


def _end_as(main: Callable[[], None]) -> NoReturn:
    """Run to the end, but for the interpreter's own: it would copy all memory that it shares, to set it free."""
    code: Any = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)


def _job_from(fd: int) -> dict[str, Any]:
    """What a child is to become; ends where its parent does before it says so."""
    null = os.open(os.devnull, os.O_RDWR)
    fork_server._inherit({0: null, 1: null, 2: null, _SOCKET: fd})
    with socket.socket(fileno=_SOCKET) as sock:
        message, fds = fork_server._receive(sock)
    if not message:
        os._exit(0)
    job: dict[str, Any] = json.loads(message)
    fork_server._inherit(dict(zip(job["fds"], fds, strict=True)))
    return job


def _see_as(engine: bool) -> None:  # noqa: FBT001 - what is becoming one
    """Have the modules of an engine, or of all others, which have not said yet whether they want torch."""
    if engine:
        _take_out()
        sys.modules.update(_ENGINE)
    else:
        del sys.modules["torch"]
        importlib.reload(sys.modules["huggingface_hub.constants"])  # which reads the environment, once


def main() -> None:
    """Serve; what comes back is run here, as the last thing of a process like any other."""
    bring_in()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process of several threads cannot be forked"
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.send(fork_server.READY)
        job = fork_server.serve(sock)
        sock.detach()
    if job is not None:
        run(job)


if __name__ == "__main__":
    main()
