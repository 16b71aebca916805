"""``python fork_server.py FD KIND PADDING`` becomes other processes by forking, with all imported that they begin with.

A message on the socket is a job: a command line of Python's, with the descriptors that it inherits. The answer is the
number of a process that runs it. Its parent is nobody here: whoever asked is to be the next reaper.
"""

import array
import ctypes
import fcntl
import gc
import json
import os
import re
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

LARGEST = 1 << 17
"""Bytes of a job; an environment is most of it."""
READY = b"ready"
_MOST_FDS = 16
_LINE, _ENVIRONMENT = (47, 48), (49, 50)
"""Where /proc/self/stat tells begin and end of what a process was started with; fields are counted from 0."""
NAMESPACE = "HELEXA_TEST_NAMESPACE"
"""In the environment of a job: the network namespace that it belongs to."""
CONSTANTS = "HELEXA_TEST_CONSTANTS"
"""Likewise: constants of modules that are other than they are by themselves, as "actors.vitals:SILENCE_SECONDS=2"."""
_NEWNET = 0x40000000
"""CLONE_NEWNET."""
_KNOWN = dict(os.environ)
"""What a server was started with."""


def engines() -> None:
    """What an engine's process imports, in its order; none of the modules that are run."""
    from helexa.engine import environment, libraries
    from helexa.engine.parallel import group as parallel_group  # noqa: F401 - imported to be there

    environment.prepare()
    libraries.bring_in()
    from transformers import LlamaForCausalLM, Qwen3ForCausalLM  # noqa: F401 - likewise

    import helexa.engine.core
    import helexa.engine.weights.loading  # noqa: F401 - likewise


def gateways() -> None:
    """What `helexa up` imports on a host with a gateway."""
    import sqlalchemy.dialects.sqlite  # noqa: F401 - imported to be there

    import helexa.cli.app
    import helexa.up.root  # noqa: F401 - likewise

    gc.freeze()


def scripts() -> None:
    """What small scripts that stand in for an engine import."""
    import helexa.engine.protocol  # noqa: F401 - imported to be there


KINDS = {each.__name__: each for each in (engines, gateways, scripts)}


def serve(sock: socket.socket) -> dict[str, Any] | None:
    """Fork for each job, until nobody is there who could ask; the job comes back in the process that is to do it."""
    while True:
        message, fds = _receive(sock)
        if not message:
            return None
        job = json.loads(message)
        told, tell = os.pipe()
        if (child := os.fork()) == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            while os.getppid() == between:  # for some microseconds: whoever looks has the parent that asked
                os.sched_yield()
            _appear(job)  # now: it may be looked at, and killed with its group, as soon as it is known
            os.write(tell, str(os.getpid()).encode())
            _inherit(dict(zip(job["fds"], fds, strict=True)))
            return job  # type: ignore[no-any-return]  # as it was sent
        os.waitpid(child, 0)
        os.close(tell)  # first: where it could not fork there is nothing to read
        sock.send(os.read(told, 32))
        for fd in (told, *fds):
            os.close(fd)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A message, and copies of descriptors; not `socket.recv_fds`, which would leave them to programs begun here."""
    fds = array.array("i")
    message, told, *_ = sock.recvmsg(LARGEST, socket.CMSG_SPACE(_MOST_FDS * fds.itemsize))
    for _, _, data in told:
        fds.frombytes(data)
    return message, list(fds)


def _inherit(wanted: dict[int, int]) -> None:
    """Have these descriptors by the numbers that the job knows, and no others."""
    first = max(*wanted, *(int(each.name) for each in Path("/proc/self/fd").iterdir())) + 1
    above = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, first) for number, fd in wanted.items()}
    os.closerange(0, first)
    for number, fd in above.items():
        os.dup2(fd, number)
        os.close(fd)


def become(job: dict[str, Any]) -> None:
    """Be what its command line would have begun, and run it."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["directory"])
    _appear(job)
    # what is new goes first: there is as much room as the server's own environment took
    ordered = sorted(os.environ.items(), key=lambda entry: entry in _KNOWN.items())
    _write([f"{name}={value}" for name, value in ordered], _ENVIRONMENT)
    _obey()
    arguments = job["arguments"][1:] if job["arguments"][0] == "-P" else job["arguments"]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(arguments[1], {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _appear(job: dict[str, Any]) -> None:
    """Be it to those who look from outside; twice is fine."""
    if job["session"] and os.getsid(0) != os.getpid():
        os.setsid()
    _write([sys.executable, *job["arguments"]], _LINE)


def _obey() -> None:
    """What an environment says to those who begin with it, and to whom we are."""
    if space := os.environ.get(NAMESPACE):
        _enter(space)
    if (torch := sys.modules.get("torch")) and (threads := os.environ.get("OMP_NUM_THREADS")):
        torch.set_num_threads(int(threads))  # it is read when torch is imported
    for each in os.environ.get(CONSTANTS, "").split():
        module, name, value = re.split("[:=]", each)
        if module in sys.modules:  # it is for those who have it behind them
            setattr(sys.modules[module], name, float(value))


def _enter(space: str) -> None:
    with Path(f"/run/netns/{space}").open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {space}")


def _write(strings: list[str], fields: tuple[int, int]) -> None:
    """Have others read them as this process's command line, for which its padding has made room, or as environment."""
    told = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(told[index - 2]) for index in fields)
    text = "\0".join(strings).encode() + b"\0"
    assert fields != _LINE or len(text) < end - start
    ctypes.memmove(start, text[: end - start].ljust(end - start, b"\0"), end - start)


def main() -> None:
    """Serve; what comes back is run here, as the last thing of a process like any other."""
    KINDS[sys.argv[2]]()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process of several threads cannot be forked"
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.send(READY)
        job = serve(sock)
        sock.detach()
    if job is not None:
        become(job)


if __name__ == "__main__":
    main()
