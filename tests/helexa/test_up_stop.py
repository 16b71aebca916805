"""From signals to a stop: orderly, at once, by force."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from helexa.up import stop as stop_module
from helexa.up.stop import STOP_SIGNALS, watch_signals

ROOT = Path(stop_module.__file__).parents[2]
STUCK = """
import os, signal, sys, trio
from helexa.up import stop
stop.FORCE_SECONDS = float(sys.argv[1])
async def main():
    event = trio.Event()
    with trio.CancelScope() as everything:
        async with trio.open_nursery() as nursery:
            await nursery.start(stop.watch_signals, event, everything)
            print("ready", flush=True)
            await event.wait()
            print("stopping", flush=True)
            with trio.CancelScope(shield=sys.argv[2] == "shielded"):
                await trio.sleep(60)
    print("cancelled", flush=True)
trio.run(main)
"""


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Force timers that would have been started; a real one would end the test run."""
    started: list[str] = []
    monkeypatch.setattr(stop_module, "_force_later", lambda: started.append("force"))
    return started


@pytest.mark.parametrize("number", STOP_SIGNALS)
async def test_the_first_signal_stops_and_the_second_cancels(timers: list[str], number: signal.Signals) -> None:
    stop = trio.Event()
    with trio.fail_after(10), trio.CancelScope() as everything:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, everything)
            os.kill(os.getpid(), number)
            await stop.wait()
            await wait_all_tasks_blocked()
            assert not everything.cancel_called
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
    assert everything.cancel_called
    assert timers == ["force"]


async def test_a_stop_for_another_reason_leaves_the_next_signal_the_last_word(timers: list[str]) -> None:
    stop = trio.Event()
    stop.set()
    with trio.fail_after(10), trio.CancelScope() as everything:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, everything)
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
    assert everything.cancel_called


def run(force_seconds: str, shield: str) -> "subprocess.Popen[str]":
    """A process that is deaf to its stop."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, force_seconds, shield],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_neither_stops_nor_can_be_cancelled_is_ended_by_force() -> None:
    process = run("0.3", "shielded")
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output == "stopping\n"
    assert errors == "helexa: not everything ended within 0.3 s; ending by force.\n"


def test_a_timer_that_is_not_needed_delays_nothing() -> None:
    process = run("60", "unshielded")
    for line in ("stopping\n", "cancelled\n"):
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == line
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0
