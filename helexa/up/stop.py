"""From a signal to a stop: orderly first, at once on the second signal, by force when it takes too long."""

import os
import signal
import sys
import threading

import trio

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORCE_SECONDS = 9.0


async def watch_signals(
    stop: trio.Event, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``stop`` on the first signal, cancel ``everything`` on the second.

    Whatever an orderly stop runs into, ``FORCE_SECONDS`` after the first signal the process is gone; its children have
    lifelines and follow.
    """
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                everything.cancel()
            else:
                stop.set()
                _force_later()


def _force_later() -> None:
    timer = threading.Timer(FORCE_SECONDS, _force)
    timer.daemon = True
    timer.start()


def _force() -> None:
    print(f"helexa: not everything ended within {FORCE_SECONDS:g} s; ending by force.", file=sys.stderr, flush=True)  # noqa: T201 - logging may be what hangs
    os._exit(1)
