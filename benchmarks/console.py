"""What the console costs: how soon it opens, how fast a key is drawn while much happens, processor, memory of a replay.

What a terminal itself takes to draw is not in these figures. The fleet of the
event rates is scripted: 20 nodes of 2 devices and 10 models, read once a second as the console does.

    just bench-console [--seconds 10] [--json FILE]
"""

# ruff: noqa: SLF001 - the last step before a terminal is private to Textual
import argparse
import asyncio
import contextlib
import fcntl
import gc
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from textual import events
from textual.pilot import Pilot
from textual.screen import Screen

from tui.app import Console, replay
from tui.garbage import Garbage
from tui.live import Tell
from tui.messages import Happened, LinkChanged, Seen
from tui.recording import Recorder
from tui.shapes import Event
from tui.widgets.foldedlist import FoldedList

NODES, DEVICES, MODELS = 20, 2, 10
SIZE = (160, 48)
PRESS_EVERY = 0.05


def fleet(second: float) -> dict[str, Any]:
    """What such a fleet tells; figures move with time."""
    return {"nodes": [_node(number, second) for number in range(NODES)]}


def _node(number: int, second: float) -> dict[str, Any]:
    used = int(second * 97 + number * 31) % 40_000
    health = {
        "memory_total_mb": 48_000,
        "memory_used_mb": used,
        "utilization": used % 100,
        "temperature": 50,
        "power": 90,
    }
    steps = {"count": 1, "seconds": 1.0, "new_tokens": int(second * 100)}
    held = {"status": "loaded", "device": "cuda:0", "memory_mb": 900, "running": used % 8, "steps": steps}
    devices = [{"name": f"cuda:{index}", **health} for index in range(DEVICES)]
    models = [{"id": f"org/model-{number}-{index}", **held} for index in range(MODELS)]
    return {"name": f"node-{number:02}", "up": True, "devices": devices, "models": models}


class Busy:
    """A source of so many events a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def poke(self, *feeds: str) -> None:
        """Nothing is asked of anybody."""

    async def run(self, wanted: Callable[[], frozenset[str]], tell: Tell) -> None:
        """Tell for ever: the events of each tenth of a second together, the fleet once a second."""
        del wanted
        tell(LinkChanged("connected"))
        begin, told, read = time.monotonic(), 0, -1
        while True:
            second = time.monotonic() - begin
            due = int(second * self._rate)
            if due > told:
                tell(Happened([Event(each, second, "request.ended", {"node": "node-01"}) for each in range(told, due)]))
                told = due
            if int(second) > read:
                read = int(second)
                tell(Seen("fleet", fleet(second), time.time()))
            await asyncio.sleep(0.1)


def opening() -> dict[str, float]:
    """Seconds from `helexa console` in a terminal to the first picture, and of a Python alone; medians of five."""
    console = [sys.executable, "-m", "helexa", "console", "--url", "http://127.0.0.1:9"]
    nothing = [sys.executable, "-c", "print('Fleet')"]
    return {
        name: statistics.median(_until_drawn(command) for _ in range(5))
        for name, command in (("open_s", console), ("python_s", nothing))
    }


def _until_drawn(command: list[str]) -> float:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    begin, shown = time.perf_counter(), b""
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        while b"Fleet" not in shown:
            shown += os.read(ours, 65_536)
        seconds = time.perf_counter() - begin
        process.kill()
    os.close(ours)
    os.close(theirs)
    return seconds


async def _with(app: Console, steps: Callable[[Pilot[None]], Awaitable[None]]) -> None:
    app.garbage = Garbage()  # as a console has that is a process of its own
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        await steps(pilot)


async def keys(rate: float, seconds: float) -> dict[str, float]:
    """Milliseconds from a key to the picture that shows it, and of the processor: the cursor is moved, and moved back.

    Textual draws 60 times a second, so half of 17 ms is waited for even if nothing has to be computed.
    """
    took: list[float] = []
    used: list[float] = []
    app = Console(Busy(rate), None, "bench")

    async def steps(pilot: Pilot[None]) -> None:
        await asyncio.sleep(1.5)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begin, before = time.perf_counter(), time.process_time()
            await _press(app, "up" if len(took) % 2 else "down")
            took.append(1000 * (time.perf_counter() - begin))
            used.append(1000 * (time.process_time() - before))
            await asyncio.sleep(PRESS_EVERY)
        del pilot

    await _with(app, steps)
    ordered = sorted(took)
    p50, p95 = ordered[len(took) // 2], ordered[int(len(took) * 0.95)]
    return {"key_p50_ms": p50, "key_p95_ms": p95, "key_cpu_p95_ms": sorted(used)[int(len(used) * 0.95)]}


async def _press(app: Console, key: str) -> None:
    """As a driver hands it on; done once the line that the cursor comes to has been handed to the terminal.

    Textual's own ``call_after_refresh`` does not do: a widget tells its screen only later that it is to be drawn.
    """
    folds, drawn = app.screen.query_one(FoldedList), asyncio.Event()
    before, display = folds.at, app._display

    def shown(screen: Screen[None], renderable: Any) -> None:
        display(screen, renderable)
        if folds.at != before and folds.is_drawn(folds.at):
            drawn.set()

    app._display = shown  # type: ignore[method-assign] - the last step before the terminal
    app.post_message(events.Key(key, None))
    await drawn.wait()
    app._display = display  # type: ignore[method-assign]


async def processor(rate: float, seconds: float) -> dict[str, float]:
    """Share of a core while so much happens and nobody types."""
    shares: list[float] = []

    async def steps(pilot: Pilot[None]) -> None:
        del pilot
        await asyncio.sleep(2)
        begin, used = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        shares.append((time.process_time() - used) / (time.monotonic() - begin))

    await _with(Console(Busy(rate), None, "bench"), steps)
    return {"core_percent": 100 * shares[0]}


def record(path: Path, minutes: int) -> None:
    """A recording of that long: the fleet and its events each second, requests and log lines as well."""
    with Recorder(path, "http://bench") as recorder:
        for second in range(60 * minutes):
            at = 1_790_000_000.0 + second
            lines = [
                {"id": second * 5 + each, "time": at, "event": "request", "fields": {"n": each}} for each in range(5)
            ]
            recorder.tell(Seen("fleet", fleet(second), at))
            recorder.tell(Seen("logs", {"lines": lines, "last": second * 5, "node": ""}, at))
            recorder.tell(Seen("requests", {"running": [{"number": second, "model": "m"}] * 20, "ended": []}, at))


async def memory(path: Path, speed: float, seconds: float) -> dict[str, float]:
    """MiB of the process at a quarter of the time of a replay and at its end, and minutes that were shown."""
    app = replay(path, speed)
    sizes: list[float] = []

    async def steps(pilot: Pilot[None]) -> None:
        del pilot
        begin = app.source.now  # type: ignore[attr-defined] - a replay's
        for _ in range(4):
            await asyncio.sleep(seconds / 4)
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss / 2**20)
        shown.append((app.source.now - begin) / 60)  # type: ignore[attr-defined] - a replay's

    shown: list[float] = []
    await _with(app, steps)
    return {"quarter_mib": sizes[0], "end_mib": sizes[-1], "shown_minutes": shown[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each part")
    parser.add_argument(
        "--minutes", type=int, default=60, help="of the recording that is replayed at 60 times its speed"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {
        "opening": opening(),
        "keys_at_1000_events_s": asyncio.run(keys(1000, options.seconds)),
        "processor_at_10_events_s": asyncio.run(processor(10, options.seconds)),
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "recording"
        record(path, options.minutes)
        found["replay_at_60x"] = asyncio.run(memory(path, 60.0, options.seconds))
    for part, figures in found.items():
        print(f"{part:26}", "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    if options.json is not None:
        with contextlib.closing(options.json.open("w")) as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
