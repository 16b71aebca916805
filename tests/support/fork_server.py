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
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

LARGEST = 1 << 17
"""Bytes of a job; an environment is most of it."""
READY = b"ready"
_MOST_FDS = 16
_ARG_START, _ARG_END = 47, 48
"""Fields of /proc/self/stat, counted from 0."""


def engines() -> None:
    """What an engine's process imports, in its order; none of the modules that are run."""
    from helexa.engine import environment, libraries, parallel_group  # noqa: F401 - imported to be there

    environment.prepare()
    libraries.bring_in()
    from transformers import LlamaForCausalLM, Qwen3ForCausalLM  # noqa: F401 - likewise

    import helexa.engine.core
    import helexa.engine.loading  # noqa: F401 - likewise


def gateways() -> None:
    """What `helexa up` imports on a host with a gateway."""
    import sqlalchemy.dialects.sqlite  # noqa: F401 - imported to be there

    import helexa.cli.app
    import helexa.up.root  # noqa: F401 - likewise

    gc.freeze()


KINDS = {each.__name__: each for each in (engines, gateways)}


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
            if own := os.fork():
                os.write(tell, str(own).encode())
                os._exit(0)
            while os.getppid() == between:  # for some microseconds: whoever looks has the parent that asked
                os.sched_yield()
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
    """Be what its command line would have begun, to those who look from outside too, and run it."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["directory"])
    if job["session"]:
        os.setsid()
    _rename([sys.executable, *job["arguments"]])
    arguments = job["arguments"][1:] if job["arguments"][0] == "-P" else job["arguments"]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _rename(command: list[str]) -> None:
    """Write it over this process's command line, which the padding has made room for."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(fields[index - 2]) for index in (_ARG_START, _ARG_END))
    line = "\0".join(command).encode() + b"\0"
    assert len(line) < end - start
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


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
