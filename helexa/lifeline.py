"""The child's side of a lifeline: a pipe that ends when the parent process does, whatever ended the parent.

Imports the standard library alone, and little of it: a child watches from its first line on, before it imports anything
that takes seconds.
"""

import os
import select
import threading
import time
from collections.abc import Callable

_CHUNK = 4096


def watch(on_end: Callable[[], None], *, fd: int = 0, grace: float = 5.0) -> None:
    """Call `on_end` when the pipe ends, and end this process by force if it is still there `grace` seconds later.

    Only for a process whose parent holds the other end: any other stdin (a terminal, /dev/null) ends for reasons of its
    own, at once for the latter. What is read from the pipe is dropped. The watch is kept by daemon threads, so the main
    thread may be in a long call of native code, as long as that lets go of the GIL.

    Children of this process are not ended here: helexa's have lifelines of their own, held by this process.

    Args:
        on_end: Asks for an orderly end, for instance by sending this process SIGTERM. Runs in a thread of its own, so
            that it may block or raise and the process still ends.
        fd: The pipe's read end; still owned by the caller, who keeps it open.
        grace: Seconds an orderly end may take; then the exit code is 1, without any cleanup.
    """
    threading.Thread(target=_watch, args=(on_end, fd, grace), name="lifeline", daemon=True).start()


def _watch(on_end: Callable[[], None], fd: int, grace: float) -> None:
    _wait_for_end(fd)
    try:
        threading.Thread(target=on_end, name="lifeline-end", daemon=True).start()
        time.sleep(grace)
    finally:  # no thread can be started while the interpreter shuts down
        os._exit(1)


def _wait_for_end(fd: int) -> None:
    """Block until `fd` ends. A broken `fd` counts as ended: nobody would notice the parent's death any more."""
    poller = select.poll()  # a plain read fails where somebody has made the descriptor non-blocking
    poller.register(fd, select.POLLIN)
    while True:
        poller.poll()
        try:
            if not os.read(fd, _CHUNK):
                return
        except OSError:
            return
